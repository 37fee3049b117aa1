"""Machine: what the machine offers to a server, each thing looked at by itself."""

import ctypes
import errno
import gzip
import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from attrs import frozen

from oanix.env import state_folder
from oanix.env.state import make_state
from oanix.scheduler.interpreters import INTERPRETERS

State = Literal["ok", "warn", "fail"]

FUSE: Final = Path("/dev/fuse")
FUSE_CONF: Final = Path("/etc/fuse.conf")
PASSTHROUGH_KERNEL: Final = (6, 9)
FANOTIFY_KERNEL: Final = (5, 13)
OLDEST_KERNEL: Final = (5, 4)
FILES_WANTED: Final = 65_536
FILES_NEEDED: Final = 1_024

CONTAINER: Final = "a container needs --device /dev/fuse --cap-add SYS_ADMIN"
CAP_SYS_ADMIN: Final = 21
"""The number of the right to mount (capabilities(7))."""

FAN_CLOEXEC: Final = 0x1
FAN_REPORT_DFID_NAME: Final = 0xC00


@frozen
class Check:
    """One thing: what was found, what follows from it, and what to do about it."""

    name: str
    state: State
    found: str
    follows: str = ""
    remedy: str = ""


def checks() -> list[Check]:
    """Look at everything."""
    return [look() for look in LOOKS]


def _python() -> Check:
    # An older one does not come this far: the package asks for 3.11.
    return Check("python", "ok", f"{platform.python_implementation()} {platform.python_version()}")


def _release() -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _kernel() -> Check:
    found = f"{platform.system()} {platform.release()}"
    if _release() >= OLDEST_KERNEL:
        return Check("kernel", "ok", found)
    return Check("kernel", "warn", found, "older than what is tested", "use Linux 5.4 or newer")


def _device() -> Check:
    follows = "nothing can be mounted"
    try:
        os.close(os.open(FUSE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Check(
            "/dev/fuse", "fail", "missing", follows, f"as root: modprobe fuse; {CONTAINER}",
        )  # fmt: skip
    except OSError as error:
        remedy = f"as root: modprobe fuse && chmod 666 /dev/fuse; {CONTAINER}"
        return Check("/dev/fuse", "fail", f"cannot be opened ({error.strerror})", follows, remedy)
    return Check("/dev/fuse", "ok", "can be opened")


def _fusermount() -> Check:
    path = shutil.which("fusermount3")
    remedy = "install the package fuse3"
    if path is None:
        # Root mounts by itself, and `umount` undoes that.
        state: State = "warn" if os.geteuid() == 0 else "fail"
        return Check("fusermount3", state, "missing", "only root can mount and unmount", remedy)
    if not os.stat(path).st_mode & 0o4000 and os.geteuid():
        return Check("fusermount3", "fail", f"{path} is not set-uid", "only root can mount", remedy)
    return Check("fusermount3", "ok", path)


def _right() -> Check:
    """Look for the right to mount: root's own, or what set-uid fusermount3 can still get."""
    name, follows = "right to mount", "nothing can be mounted"
    said = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    root = os.geteuid() == 0
    if not int(said["CapEff" if root else "CapBnd"], 16) >> CAP_SYS_ADMIN & 1:
        return Check(name, "fail", "CAP_SYS_ADMIN was taken away", follows, CONTAINER)
    if not root and int(said.get("NoNewPrivs", "0")):
        return Check(
            name, "fail", "no_new_privs is set, so set-uid fusermount3 gets no rights", follows,
            "start without it; a container needs --security-opt no-new-privileges=false",
        )  # fmt: skip
    return Check(name, "ok", "root has it" if root else "fusermount3 can get it")


def _pyfuse3() -> Check:
    remedy = "pip install 'oanix[fuse]', which needs a C compiler, pkg-config and libfuse3-dev"
    follows = "nothing can be mounted; all other commands work"
    try:
        from mounts import fuse  # noqa: F401  # its import is what may fail

        return Check("pyfuse3", "ok", version("pyfuse3"))
    except PackageNotFoundError:
        return Check("pyfuse3", "ok", "of unknown version")
    except ImportError as error:
        return Check("pyfuse3", "fail", f"cannot be used ({error})", follows, remedy)


def _libfuse() -> Check:
    try:
        library = ctypes.CDLL("libfuse3.so.3")
        library.fuse_pkgversion.restype = ctypes.c_char_p
        return Check("libfuse", "ok", library.fuse_pkgversion().decode())
    except (OSError, AttributeError):
        return Check(
            "libfuse", "warn", "not found as libfuse3.so.3",
            "pyfuse3 works only when it brings its own", "install the package libfuse3-3",
        )  # fmt: skip


def _allow_other() -> Check:
    try:
        lines = [line.split("#")[0].strip() for line in FUSE_CONF.read_text().splitlines()]
    except OSError:
        lines = []
    name = "user_allow_other"
    if name in lines:
        return Check(name, "ok", f"set in {FUSE_CONF}")
    if os.geteuid() == 0:
        return Check(name, "ok", f"not set in {FUSE_CONF}; root does not need it")
    return Check(
        name, "warn", f"not set in {FUSE_CONF}",
        "-o allow-other is refused: only the user who mounts sees the files",
        f"as root: echo user_allow_other >> {FUSE_CONF}",
    )  # fmt: skip


def _user_namespaces() -> Check:
    name, tool = "user namespaces", shutil.which("unshare")
    if tool is None:
        return Check(name, "warn", "unshare is missing, so not tried", "", "install util-linux")
    tried = subprocess.run(
        [tool, "--user", "--map-root-user", "--mount", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode == 0:
        return Check(name, "ok", "can be made")
    said = tried.stderr.strip().rpartition(": ")[2] or f"exit code {tried.returncode}"
    return Check(
        name, "warn", f"refused ({said})", "a program cannot get a private view of a mount",
        "as root: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000, "
        "and kernel.apparmor_restrict_unprivileged_userns=0 where that exists",
    )  # fmt: skip


def _passthrough() -> Check:
    name, found = "FUSE passthrough", f"Linux {platform.release()}"
    configured = _configured("CONFIG_FUSE_PASSTHROUGH")
    if _release() >= PASSTHROUGH_KERNEL and configured is not False:
        said = "has it" if configured else "can have it"
        return Check(name, "ok", f"{found} {said}; this release does not use it")
    return Check(
        name, "warn", f"{found} has none", "no use is made of it in this release",
        "use Linux 6.9 or newer, with CONFIG_FUSE_PASSTHROUGH",
    )  # fmt: skip


def _configured(option: str) -> bool | None:
    """Tell whether the kernel was built with an option, or None where it does not say."""
    try:
        with gzip.open("/proc/config.gz", "rt") as lines:
            return any(line.startswith(f"{option}=") for line in lines)
    except OSError:
        return None


def _fanotify() -> Check:
    name = "fanotify"
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        found = libc.fanotify_init(FAN_REPORT_DFID_NAME | FAN_CLOEXEC, 0)
    except AttributeError:
        found, number = -1, errno.ENOSYS
    else:
        number = ctypes.get_errno()
    if found >= 0:
        os.close(found)
        how = "as root" if os.geteuid() == 0 else "without root"
        return Check(name, "ok", f"can be used {how}")
    return Check(
        name, "warn", f"refused ({os.strerror(number)})",
        "changes that others make in a served directory show after a second",
        "use Linux 5.13 or newer" if _release() < FANOTIFY_KERNEL else
        "raise fs.fanotify.max_user_groups, or let the container use fanotify",
    )  # fmt: skip


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{_limit(soft)}, raised to at most {_limit(hard)}"
    if hard == resource.RLIM_INFINITY or hard >= FILES_WANTED:
        return Check("open files", "ok", found)
    state: State = "warn" if hard >= FILES_NEEDED else "fail"
    return Check(
        "open files", state, found, "programs that open many files at once get EMFILE",
        f"ulimit -Hn {FILES_WANTED}, or nofile in /etc/security/limits.conf",
    )  # fmt: skip


def _limit(number: int) -> str:
    return "unlimited" if number == resource.RLIM_INFINITY else str(number)


def _state() -> Check:
    state = state_folder()
    try:
        make_state(state)
        if not os.access(state, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it cannot be written to")
    except OSError as error:
        said = error.strerror or "unusable"
        return Check(
            "state folder", "fail", f"{state}: {said}", "no default namespace",
            "set OANIX_STATE to a folder of your own",
        )  # fmt: skip
    with suppress(OSError):
        free = os.statvfs(state)
        return Check(
            "state folder", "ok", f"{state}, {free.f_bavail * free.f_frsize >> 20} MiB free"
        )
    return Check("state folder", "ok", state)


def _posix() -> Check:
    return Check(
        "what a mount cannot do", "warn",
        "no fallocate, ioctl, SEEK_HOLE; inotify and locks see only the mount's own side",
        "a database that is open on both sides is damaged", "docs/posix.md has the list",
    )  # fmt: skip


def _interpreters() -> Check:
    found, wrong, anew = [], [], []
    for one in INTERPRETERS.values():
        try:
            one.wasm()
        except OSError as error:
            wrong.append(str(error.strerror).partition("; ")[0])
            anew.append(f"{one.package}=={one.version}")
        else:
            found.append(one.title)
    if not wrong:
        return Check("interpreters", "ok", ", ".join(found))
    remedy = f"pip install --force-reinstall {' '.join(anew)}"
    return Check("interpreters", "warn", "; ".join(wrong), "their scripts cannot be run", remedy)


LOOKS: tuple[Callable[[], Check], ...] = (
    _python, _kernel, _device, _right, _fusermount, _pyfuse3, _libfuse, _allow_other,
    _user_namespaces, _passthrough, _fanotify, _files, _interpreters, _state, _posix,
)  # fmt: skip
