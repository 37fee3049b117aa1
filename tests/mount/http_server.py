"""Serves HttpFs for the tests of the FUSE door, and the web server that it asks.

    python http_server.py MOUNTPOINT [RULES]

Prints "mounted PORT" when it is. SIGTERM ends it.
"""

import signal
import sys

import trio

from mounts.fuse import serve as mount
from mounts.options import FuseOptions
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.web import Web
from oanix.namespace import Namespace
from oanix.services.devfs import DevFs
from oanix.services.http import HttpFs
from tests.web.asking import OPEN
from tests.web.server import serve


async def main(mountpoint: str, rules: str = OPEN) -> None:
    service = HttpFs(web=Web(Policy(Layer(Rules.parse(rules)))))
    namespace = Namespace()
    namespace.mount(service, "/cap/http")
    namespace.mount(DevFs(), "/dev")
    async with serve() as server, service.running(), trio.open_nursery() as nursery:
        await nursery.start(mount, namespace, mountpoint, FuseOptions.parse([]))
        print(f"mounted {server.port}", flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
