"""Source: what is installed as a kind comes from a folder, an archive, or a module alone."""

import errno
import hashlib
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from oanix import path as paths
from oanix.errors import fault
from oanix.lib.agents.manifest import (
    FILES_MAX,
    MANIFEST_MAX,
    Manifest,
    Need,
    parse_manifest,
)
from oanix.lib.agents.names import RESERVED, check_file, check_kind
from oanix.lib.agents.store import FILE_MAX, MANIFEST, TOTAL_MAX, check_files, read_bounded

ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz")
MODULE_START: Final = b"\0asm\x01\0\0\0"
"""How a WebAssembly module begins (WebAssembly core specification, 5.5.16)."""


def read_kind(source: Path, *, pinned: bool = False) -> tuple[Manifest, dict[str, bytes]]:
    """Read a kind from a folder, its manifest, an archive or a module, and pin what it runs.

    pinned: the manifest has to have all the hashes. Raises OSError: EINVAL and EFBIG for what is no
    kind, and as reading does.
    """
    if source.is_dir():
        return _of_files(_named_files(source), pinned=pinned)
    if source.name == MANIFEST:
        return _of_files(_named_files(source.parent), pinned=pinned)
    if source.name.endswith(ARCHIVES):
        return _of_files(_archive(source), pinned=pinned)
    if source.suffix == ".wasm":
        return _of_module(source)
    raise fault(
        errno.EINVAL,
        f"this is no kind: give a folder with a {MANIFEST}, an archive of one "
        f"({', '.join(ARCHIVES)}), or a module (.wasm)",
        str(source),
    )


def _named_files(folder: Path) -> dict[str, bytes]:
    """Read what a manifest names with a hash; all that could be meant where it names nothing."""
    said = read_bounded(folder / MANIFEST, MANIFEST_MAX) if (folder / MANIFEST).exists() else None
    named = parse_manifest(said, pinned=False).sha256 if said is not None else {}
    if said is None or not named:
        return folder_files(folder)
    top = os.path.realpath(folder)
    found = {MANIFEST: said}
    for name in named:
        path = folder / name
        if os.path.realpath(path) == os.path.join(top, name) and path.is_file():
            found[name] = read_bounded(path, FILE_MAX)
            _bound(found)
    return found


def _of_files(found: dict[str, bytes], *, pinned: bool) -> tuple[Manifest, dict[str, bytes]]:
    said = found.pop(MANIFEST, None)
    if said is None:
        raise fault(errno.EINVAL, f"there is no {MANIFEST} in it")
    manifest = parse_manifest(said, pinned=pinned)
    if not pinned and not manifest.sha256:
        manifest = manifest.pinned(hashes_of(found))
    files = {name: data for name, data in found.items() if name in manifest.sha256}
    # What the manifest does not name is left where it is: notes, tests, a build's leftovers.
    if manifest.runs and manifest.runs not in manifest.sha256:
        raise fault(errno.EINVAL, f"the manifest runs {manifest.runs!r}, which is not there")
    check_files(manifest, files)
    if manifest.module:
        _check_module(files[manifest.module], manifest.module)
    return manifest, files


def hashes_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """Give the hash of each file."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _of_module(source: Path) -> tuple[Manifest, dict[str, bytes]]:
    data = read_bounded(source, FILE_MAX)
    _check_module(data, source.name)
    files = {"module.wasm": data}
    manifest = Manifest(
        name=check_kind(source.stem.lower().replace(".", "-")), version="0",
        description=f"The module {source.name}, with the files of the workspace.",
        module="module.wasm", takes_any=True, sha256=hashes_of(files),
        needs=(Need(path="/workspace", why="the files that it works on", optional=True),),
    )  # fmt: skip
    # As everybody else's: what cannot be written down is not installed.
    return parse_manifest(manifest.show().encode()), files


def _check_module(data: bytes, name: str) -> None:
    if data[:4] == MODULE_START[:4] and data[:8] != MODULE_START:
        raise fault(errno.EINVAL, f"{name} is a component, or of another version: give a module")
    if data[:8] != MODULE_START:
        raise fault(errno.EINVAL, f"{name} is no WebAssembly module")


def folder_files(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder that could be those of a kind. Raises OSError EFBIG."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = paths.decode(str(path.relative_to(folder)).encode("utf-8", "surrogateescape"))
        if path.is_symlink() or not path.is_file() or not _kept(name):
            continue
        found[name] = read_bounded(path, _most(name))
        _bound(found)
    return found


def _archive(source: Path) -> dict[str, bytes]:
    data = read_bounded(source, TOTAL_MAX)
    try:
        members = list(_zip(data) if source.suffix == ".zip" else _tar(data))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError,
            RuntimeError, ValueError) as error:  # fmt: skip
        raise fault(errno.EINVAL, f"this archive cannot be read: {error}", str(source)) from None
    # An archive of a folder has its name in front of every path.
    tops = {name.partition("/")[0] for name, _ in members}
    names = {name for name, _ in members}
    top = f"{next(iter(tops))}/" if len(tops) == 1 and MANIFEST not in names else ""
    return {name.removeprefix(top): data for name, data in members if _kept(name, top)}


def _zip(data: bytes) -> Iterable[tuple[str, bytes]]:
    total = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for number, member in enumerate(archive.infolist()):
            if member.is_dir():
                continue
            _count(number)
            with archive.open(member) as file:
                content = file.read(TOTAL_MAX - total + 1)
            total = _total(total, content)
            yield _member(member.filename), content


def _tar(data: bytes) -> Iterable[tuple[str, bytes]]:
    total = 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        for number, member in enumerate(archive):
            _count(number)
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                # Links and devices have no content of their own.
                continue
            content = file.read(TOTAL_MAX - total + 1)
            total = _total(total, content)
            yield _member(member.name), content


def _member(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name:
        raise fault(errno.EINVAL, f"the archive has a path that leaves it: {name[:80]!r}")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _count(number: int) -> None:
    if number >= FILES_MAX * 4:
        raise fault(errno.EFBIG, f"an archive of a kind has at most {FILES_MAX * 4} members")


def _total(total: int, content: bytes) -> int:
    total += len(content)
    if total > TOTAL_MAX:
        raise _too_much()
    return total


def _too_much() -> OSError:
    return fault(errno.EFBIG, f"a kind has at most {TOTAL_MAX >> 20} MiB of files")


def _kept(name: str, top: str = "") -> bool:
    if not name.startswith(top):
        return False
    name = name.removeprefix(top)
    if name == MANIFEST:
        return True
    try:
        check_file(name)
    except OSError:
        return False
    return name not in RESERVED or name == "README"


def _most(name: str) -> int:
    return MANIFEST_MAX if name == MANIFEST else FILE_MAX


def _bound(found: Mapping[str, bytes]) -> None:
    if len(found) > FILES_MAX:
        raise fault(errno.EFBIG, f"a kind has at most {FILES_MAX} files")
    if sum(map(len, found.values())) > TOTAL_MAX:
        raise _too_much()
