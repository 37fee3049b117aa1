"""Mount a namespace with FUSE: the one package that knows pyfuse3.

pyfuse3 keeps its session in module globals, so one process serves one mount.
"""

from mounts.fuse.serving import check_mountpoint, serve

__all__ = ["check_mountpoint", "serve"]
