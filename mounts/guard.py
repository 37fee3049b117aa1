"""The guard of a mount: a process that undoes it when its server dies without doing so.

A server that is killed leaves a mount on which every access fails. The guard is a shell that waits
for the end of its input, which comes with the server's death whatever its cause.
"""

import os
import shutil
import subprocess

_SCRIPT = """
read -r word && [ "$word" = done ] && exit 0
# Another server may have mounted here since: what answers is not ours to undo.
stat -f -- "$1" >/dev/null 2>&1 && exit 0
if command -v fusermount3 >/dev/null; then exec fusermount3 -u -q -z -- "$1"; fi
exec umount -l -- "$1"
"""


class Guard:
    """Starts with a mount, and is told when the mount was undone."""

    def __init__(self, mountpoint: str) -> None:
        shell = shutil.which("sh") or "/bin/sh"
        # A session of its own: Ctrl-C on a terminal goes to the whole process group.
        self._process = subprocess.Popen(
            [shell, "-c", _SCRIPT, "oanix-guard", mountpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.defpath},
        )

    def dismiss(self, timeout_s: float = 5.0) -> None:
        """Say that the mount was undone, and wait for the guard to end."""
        try:
            self._process.communicate(b"done\n", timeout=timeout_s)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
