"""The server of `web.py`: HttpFs alone on a FUSE mount, `python -m lib.web_mount MOUNTPOINT`.

Prints "mounted" when it is. SIGTERM ends it.
"""

from __future__ import annotations

import signal
import sys

import trio

from mounts.fuse import serve
from mounts.options import FuseOptions
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.web import Web
from oanix.namespace import Namespace
from oanix.services.http import HttpFs

LOOPBACK = "allow http://127.0.0.1:*/**\n"


async def main(mountpoint: str) -> None:
    """Serve until a signal comes."""
    service = HttpFs(web=Web(Policy(Layer(Rules.parse(LOOPBACK)))))
    namespace = Namespace()
    namespace.mount(service, "/cap/http")
    async with service.running(), trio.open_nursery() as nursery:
        await nursery.start(serve, namespace, mountpoint, FuseOptions())
        print("mounted", flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
