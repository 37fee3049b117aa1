"""WorkspaceFs: the files of a host directory at `/workspace`.

Nothing outside the directory is ever reached: every call to the host takes one name below a
directory's descriptor, and no symbolic link is followed here (`files`, `descriptors`). The host
tells what others change (`marks`, `watcher`), and what is mounted inside the directory is not
touched (`covers`).
"""

from oanix.services.workspace.service import WorkspaceFs

__all__ = ["WorkspaceFs"]
