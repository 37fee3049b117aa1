"""Store: the kinds that ship with OANIX, and those that the owner has installed.

Each is a folder with its manifest, and the files that this names with their hashes:

    DIR/<kind>/{manifest.json, installed.json, README, main.js, …}

An installed one is a link to a folder beside it, so that it is replaced in one step.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat as modes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from oanix.errors import fault
from oanix.lib.agents.manifest import MANIFEST_MAX, Manifest, parse_manifest
from oanix.lib.agents.names import check_kind

MANIFEST: Final = "manifest.json"
RECORD: Final = "installed.json"
FILE_MAX: Final = 128 << 20
"""Bytes of one file of a kind; no module may have more."""

TOTAL_MAX: Final = 256 << 20

SHIPPED: Final = Path(__file__).parents[2] / "agents"
"""The kinds that ship with OANIX."""


@frozen(eq=False)
class Installed:
    """One kind that is there.

    broken: why it cannot be used, if so; it then has no manifest. record: when it was installed and
    from where, for those that the owner did.
    """

    name: str
    folder: Path
    shipped: bool
    manifest: Manifest | None = None
    broken: str = ""
    record: Mapping[str, Any] = field(factory=dict)

    def ready(self) -> Manifest:
        """Give the manifest. Raises OSError EIO for a kind that is broken."""
        if self.manifest is None:
            raise fault(errno.EIO, f"the kind {self.name} is broken: {self.broken}")
        return self.manifest

    def stamp(self) -> tuple[int, int]:
        """Give what changes when the kind is replaced."""
        found = os.stat(self.folder / MANIFEST)
        return found.st_ino, found.st_mtime_ns

    def files(self) -> list[str]:
        """List its files: the manifest, README where it has one, and those with a hash."""
        named = [] if self.manifest is None else list(self.manifest.sha256)
        return [MANIFEST, *named]

    def read(self, name: str) -> bytes:
        """Read a file, which has to be what was installed.

        Raises OSError EIO for another content, ENOENT for a name that the manifest does not have.
        """
        if name == MANIFEST:
            return read_bounded(self.folder / MANIFEST, MANIFEST_MAX)
        digest = self.ready().sha256.get(name)
        if digest is None:
            raise fault(errno.ENOENT, f"the kind {self.name} has no file {name!r}")
        data = read_bounded(self.folder / name, FILE_MAX)
        if hashlib.sha256(data).hexdigest() != digest:
            raise fault(
                errno.EIO,
                f"{name} of the kind {self.name} is not what its manifest says (its hash differs); "
                "remove the kind and install it again",
            )
        return data


def read_bounded(path: Path, most: int) -> bytes:
    """Read a regular file, no link. Raises OSError EFBIG for more, EINVAL for what is no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not modes.S_ISREG(os.fstat(descriptor).st_mode):
            raise fault(errno.EINVAL, "this is no regular file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise fault(errno.EFBIG, f"this has more than {most} bytes", str(path))
    return data


class KindStore:
    """The kinds of this machine."""

    def __init__(self, folder: Path | None = None, shipped: Path = SHIPPED) -> None:
        """Make it. folder: where installed kinds are; None has those that ship alone."""
        self.folder = folder
        self.shipped = shipped

    def names(self) -> list[str]:
        """List the kinds, in order."""
        return sorted({*_kinds_in(self.shipped), *_kinds_in(self.folder)})

    def find(self, name: str) -> Installed | None:
        """Find a kind, which may be broken. One that ships goes before any other."""
        try:
            check_kind(name)
        except OSError:
            return None
        for place in (self.shipped, self.folder):
            if place is not None and (place / name / MANIFEST).is_file():
                return _load(place / name, shipped=place is self.shipped)
        return None

    def get(self, name: str) -> Installed:
        """Find a kind. Raises OSError ENOENT with those that there are."""
        found = self.find(name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise fault(errno.ENOENT, f"there is no kind {name[:80]!r}; there are: {known}")
        return found

    def install(
        self, manifest: Manifest, files: Mapping[str, bytes], record: Mapping[str, Any], *,
        replace: bool = False,
    ) -> Installed:  # fmt: skip
        """Keep a kind. Raises OSError EEXIST, EINVAL, EFBIG, and as the disk does."""
        if self.folder is None:
            raise fault(errno.EROFS, "there is no folder for kinds here")
        check_files(manifest, files)
        target = self.folder / manifest.name
        if manifest.name in _kinds_in(self.shipped):
            raise fault(errno.EEXIST, f"the kind {manifest.name} ships with OANIX; rename yours")
        if target.exists() and not replace:
            raise fault(errno.EEXIST, f"the kind {manifest.name} is installed already")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.folder / f".{manifest.name}@{secrets.token_hex(8)}"
        with _alone(self.folder):
            try:
                _write(new, {**files, MANIFEST: manifest.show().encode(),
                             RECORD: json.dumps(record, indent=2).encode() + b"\n"})  # fmt: skip
                _put_in_place(new, target)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
        return self.get(manifest.name)

    def remove(self, name: str) -> None:
        """Remove an installed kind. Raises OSError ENOENT, EPERM for one that ships."""
        found = self.get(name)
        if found.shipped:
            raise fault(errno.EPERM, f"the kind {name} ships with OANIX, and stays")
        with _alone(found.folder.parent):
            found.folder.unlink()
            _sweep(found.folder)


def check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Compare files with the hashes of a manifest. Raises OSError EINVAL, EFBIG."""
    if sum(map(len, files.values())) > TOTAL_MAX:
        raise fault(errno.EFBIG, f"a kind has at most {TOTAL_MAX >> 20} MiB of files")
    for name, digest in manifest.sha256.items():
        if name not in files:
            raise fault(errno.EINVAL, f"the manifest names {name!r}, which is not there")
        found = hashlib.sha256(files[name]).hexdigest()
        if found != digest:
            raise fault(
                errno.EINVAL,
                f"{name} has the hash {found[:12]}…, and the manifest says {digest[:12]}…: it was "
                "changed since (see: oanix agent pin)",
            )
    extra = sorted(set(files) - set(manifest.sha256))
    if extra:
        raise fault(errno.EINVAL, f"the manifest has no hash of {extra[0]!r}")


def _kinds_in(folder: Path | None) -> list[str]:
    try:
        names = os.listdir(folder) if folder is not None else []
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in names if _is_kind(name) and folder is not None
            and (folder / name / MANIFEST).is_file()]  # fmt: skip


def _is_kind(name: str) -> bool:
    try:
        check_kind(name)
    except OSError:
        return False
    return True


def _load(folder: Path, *, shipped: bool) -> Installed:
    name = folder.name
    try:
        manifest = parse_manifest(read_bounded(folder / MANIFEST, MANIFEST_MAX))
        if manifest.name != name:
            raise fault(errno.EINVAL, f"its manifest is that of {manifest.name!r}")
        record = {} if shipped else json.loads(read_bounded(folder / RECORD, MANIFEST_MAX))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return Installed(name, folder, shipped, broken=said or "it cannot be read")
    return Installed(name, folder, shipped, manifest, record=record)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _put_in_place(new: Path, target: Path) -> None:
    """Have a name mean a new folder, in one step: a kill leaves the old one or the new one."""
    link = target.with_name(f"{new.name}-link")
    link.symlink_to(new.name)
    os.replace(link, target)
    _sweep(target)


def _sweep(target: Path) -> None:
    """Remove the folders that a name has meant before, and what a kill has left of others."""
    kept = os.readlink(target) if target.is_symlink() else ""
    for found in target.parent.glob(f".{target.name}@*"):
        if found.is_symlink():
            found.unlink()
        elif found.name != kept:
            shutil.rmtree(found, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Have others wait who change the kinds: each sweeps away what it does not know."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
