"""Serves one file service through FUSE, with the mounts that the acceptance suite expects.

    python server.py SERVICE MOUNTPOINT FOLDER

Prints "mounted" when it is; ends at the end of its input.
"""

import sys
from collections.abc import Callable

import trio

from mounts.fuse import serve
from mounts.options import FuseOptions
from oanix.namespace import Namespace
from oanix.service import Service
from oanix.services.memfs import MemFs
from oanix.services.workspace import WorkspaceFs
from tests.conformance.suite import arrange

SERVICES: dict[str, Callable[[str], Service]] = {
    "MemFs": lambda _: MemFs(),
    "WorkspaceFs": lambda folder: WorkspaceFs(folder),
}


async def main(name: str, mountpoint: str, folder: str) -> None:
    service = SERVICES[name](folder)
    namespace = Namespace()
    namespace.mount(service, "/")
    async with service.running(), trio.open_nursery() as nursery:
        arrange(namespace)
        await nursery.start(serve, namespace, mountpoint, FuseOptions.parse([]))
        print("mounted", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
