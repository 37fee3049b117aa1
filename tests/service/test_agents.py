"""AgentsFs: the kinds that are installed, as files; and how they come there."""

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oanix.lib.agents import KindStore, Manifest
from oanix.lib.agents.source import read_kind
from oanix.services.agents import AgentsFs
from tests.reach import ALICE, Reach, refused

MODULE = b"\0asm\x01\0\0\0"
MANIFEST: dict[str, Any] = {
    "name": "tool", "version": "1", "description": "A tool.", "interpreter": "quickjs",
    "program": "main.js", "needs": [{"path": "/workspace", "why": "its files"}],
}  # fmt: skip


def folder(at: Path, files: dict[str, bytes | str] | None = None, **changed: object) -> Path:
    """Make the source of a kind."""
    at.mkdir(parents=True)
    said = {key: value for key, value in {**MANIFEST, **changed}.items() if value is not None}
    given = files if files is not None else {"main.js": "1", "lib/a.js": "2", "README": "read\n"}
    for name, content in {"manifest.json": json.dumps(said), **given}.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return at


@pytest.fixture
def store(tmp_path: Path) -> KindStore:
    return KindStore(tmp_path / "agents")


@pytest.fixture
def reach(store: KindStore) -> Reach:
    return Reach.of(AgentsFs(store=store), ALICE)


def install(store: KindStore, source: Path, *, replace: bool = False) -> Manifest:
    manifest, files = read_kind(source)
    return store.install(manifest, files, {"at": "now", "from": "x"}, replace=replace).ready()


async def test_those_that_ship_are_there_to_read(reach: Reach) -> None:
    assert {"README", "scaffold", "fix_bug"} <= set(reach.names("/"))
    assert set(reach.names("/scaffold")) == {
        "README", "manifest.json", "main.js", "fill.js", "templates"
    }  # fmt: skip
    assert json.loads(await reach.read("/scaffold/manifest.json"))["program"] == "main.js"
    page = await reach.read("/scaffold/templates/landing/index.html")
    assert page.startswith(b"<!doctype html>")
    assert reach.stat("/scaffold/templates/landing/index.html").st_size == len(page)
    assert (await reach.read("/scaffold/README")).startswith(b"scaffold: starts a project")


async def test_nothing_can_be_changed(reach: Reach) -> None:
    with refused(errno.EACCES):
        await reach.open("/scaffold/main.js", os.O_WRONLY)
    with refused(errno.EROFS):
        reach.at("/scaffold").unlink(ALICE, "main.js")
    with refused(errno.EROFS):
        reach.at("/").mkdir(ALICE, "mine", 0o755)


async def test_what_is_installed_shows_and_what_is_removed_is_gone(
    reach: Reach, store: KindStore, tmp_path: Path
) -> None:
    assert "tool" not in reach.names("/")
    install(store, folder(tmp_path / "tool"))
    assert "tool" in reach.names("/")
    assert set(reach.names("/tool")) == {"README", "manifest.json", "main.js", "lib"}
    assert await reach.read("/tool/lib/a.js") == b"2"
    assert set(json.loads(await reach.read("/tool/manifest.json"))["sha256"]) == {
        "README", "main.js", "lib/a.js"
    }  # fmt: skip
    first = reach.at("/tool/main.js").node.qid
    assert reach.at("/tool/main.js").node.qid == first
    install(store, folder(tmp_path / "new", {"main.js": "3"}), replace=True)
    assert await reach.read("/tool/main.js") == b"3"
    assert reach.at("/tool/main.js").node.qid != first
    assert (await reach.read("/tool/README")).startswith(b"Usage: oanix agent run tool")
    store.remove("tool")
    assert "tool" not in reach.names("/")
    with refused(errno.ENOENT):
        reach.at("/tool")
    assert os.listdir(tmp_path / "agents") == []


async def test_a_file_that_was_changed_since_is_not_read(
    reach: Reach, store: KindStore, tmp_path: Path
) -> None:
    install(store, folder(tmp_path / "tool"))
    kept = tmp_path / "agents/tool"
    (kept / "main.js").write_text("evil")
    with refused(errno.EIO, "its hash differs"):
        await reach.read("/tool/main.js")
    (kept / "lib/a.js").unlink()
    (kept / "lib/a.js").symlink_to("/etc/passwd")
    with refused(errno.ELOOP):
        await reach.read("/tool/lib/a.js")
    os.mkfifo(kept / "fifo")
    (kept / "README").unlink()
    (kept / "fifo").rename(kept / "README")
    with refused(errno.EINVAL, "no regular file"):
        await reach.read("/tool/README")


async def test_a_broken_kind_says_so_and_harms_no_other(
    reach: Reach, store: KindStore, tmp_path: Path
) -> None:
    install(store, folder(tmp_path / "tool"))
    (tmp_path / "agents/tool/manifest.json").write_text('{"name": "other"')
    assert set(reach.names("/tool")) == {"README", "manifest.json"}
    assert (await reach.read("/tool/README")).startswith(b"This kind is broken: ")
    assert await reach.read("/scaffold/main.js")
    with pytest.raises(OSError, match="the kind tool is broken"):
        store.get("tool").ready()
    (tmp_path / "agents/.x@1").mkdir()
    (tmp_path / "agents/UP").mkdir()
    assert set(reach.names("/")) == {"README", *store.names()}
    store.remove("tool")
    assert "tool" not in store.names()


# Installing --------------------------------------------------------------------------------------


def test_a_kind_of_the_same_name_is_replaced_only_when_told(
    store: KindStore, tmp_path: Path
) -> None:
    install(store, folder(tmp_path / "tool"))
    with refused(errno.EEXIST, "is installed already"):
        install(store, folder(tmp_path / "two"))
    with refused(errno.EEXIST, "ships with OANIX"):
        install(store, folder(tmp_path / "three", name="scaffold"), replace=True)
    with refused(errno.EPERM, "ships with OANIX"):
        store.remove("scaffold")
    with refused(errno.ENOENT, "there is no kind 'nothing'"):
        store.remove("nothing")
    for name in ("../tool", "a/b", ".", "..", "", "README"):
        assert store.find(name) is None


@pytest.mark.parametrize(
    ("files", "changed", "said"),
    [
        ({}, {}, "runs 'main.js', which is not there"),
        ({"main.js": "1"}, {"sha256": {"main.js": "0" * 64}}, "main.js has the hash 6b86b273ff34"),
        ({"main.js": "1"}, {"sha256": {"main.js": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49"
          "c01e52ddb7875b4b", "b.js": "0" * 64}}, "names 'b.js', which is not there"),
        ({"main.js": "1"}, {"program": "../main.js"}, "cannot name a file"),
        ({"main.js": "1"}, {"name": "a/b"}, "cannot name a kind"),
        ({"main.js": "1"}, {"recipe": ["mount workspace:/ /workspace"]}, "mounts nothing"),
        ({"m.wasm": "text"}, {"interpreter": None, "program": None, "module": "m.wasm"},
         "m.wasm is no WebAssembly module"),
        ({"m.wasm": b"\0asm\x0d\0\1\0"}, {"interpreter": None, "program": None, "module": "m.wasm"},
         "a component"),
        ({"m.wasm": ""}, {"interpreter": None, "program": None, "module": "m.wasm"},
         "m.wasm is no WebAssembly module"),
    ],
)  # fmt: skip
def test_what_is_no_kind_is_not_installed(
    store: KindStore, tmp_path: Path, files: dict[str, bytes | str], changed: dict[str, object],
    said: str,
) -> None:  # fmt: skip
    source = folder(tmp_path / "source", files, **changed)
    with refused(errno.EINVAL, said):
        install(store, source)
    assert not (tmp_path / "agents").exists()


def test_a_link_of_a_source_is_not_followed(store: KindStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "source", {"main.js": "1"})
    (source / "secret.js").symlink_to("/etc/passwd")
    (source / ".git").mkdir()
    (source / ".git/config").write_text("x")
    assert list(install(store, source).sha256) == ["main.js"]


def test_of_a_pinned_kind_only_what_is_named_is_read(store: KindStore, tmp_path: Path) -> None:
    digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    source = folder(tmp_path / "source", {"main.js": "1"}, sha256={"main.js": digest})
    for number in range(300):
        (source / f"{number}.txt").touch()
    assert list(install(store, source).sha256) == ["main.js"]
    (source / "manifest.json").write_text(
        json.dumps({**MANIFEST, "sha256": {"main.js": digest, "lib/a.js": digest}})
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.js").write_text("1")
    (source / "lib").symlink_to(tmp_path / "elsewhere")
    with refused(errno.EINVAL, "names 'lib/a.js', which is not there"):
        install(store, source, replace=True)


def test_a_manifest_of_a_megabyte_is_refused(store: KindStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "source", {"main.js": "1"}, description="x" * (1 << 20))
    with refused(errno.EFBIG):
        install(store, source)


def zipped(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return held.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("tool/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return held.getvalue()


@pytest.mark.parametrize(("pack", "ending"), [(zipped, ".zip"), (tarred, ".tar.gz")])
def test_an_archive_is_installed_and_none_leaves_its_folder(
    store: KindStore, tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes], ending: str
) -> None:
    said = json.dumps(MANIFEST).encode()
    good = tmp_path / f"good{ending}"
    good.write_bytes(pack({"tool/manifest.json": said, "tool/main.js": b"1", "tool/.git": b""}))
    assert list(install(store, good).sha256) == ["main.js"]
    for name in ("../../evil.js", "/evil.js", "tool/../../evil.js", "tool\\..\\evil.js"):
        bad = tmp_path / f"bad{ending}"
        bad.write_bytes(pack({"tool/manifest.json": said, "tool/main.js": b"1", name: b"x"}))
        with refused(errno.EINVAL, "a path that leaves it"):
            install(store, bad, replace=True)
    half = tmp_path / f"half{ending}"
    half.write_bytes(good.read_bytes()[:60])
    with refused(errno.EINVAL, "cannot be read"):
        install(store, half)
    assert not (tmp_path / "evil.js").exists()


def test_a_bomb_is_stopped_at_the_bound(store: KindStore, tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(MANIFEST))
        with archive.open("main.js", "w") as file:
            for _ in range(300):
                file.write(bytes(1 << 20))
    source = tmp_path / "bomb.zip"
    source.write_bytes(held.getvalue())
    assert len(held.getvalue()) < 1 << 20
    with refused(errno.EFBIG, "at most 256 MiB"):
        install(store, source)


def test_a_module_alone_is_a_kind(store: KindStore, tmp_path: Path) -> None:
    (tmp_path / "Word-Count.wasm").write_bytes(MODULE)
    made = install(store, tmp_path / "Word-Count.wasm")
    assert (made.name, made.takes_any, made.needs[0].optional) == ("word-count", True, True)
    (tmp_path / "notes.txt").write_text("x")
    with refused(errno.EINVAL, "this is no kind"):
        install(store, tmp_path / "notes.txt")


SERVER = """
import sys
from pathlib import Path
from oanix.lib.agents import KindStore
from oanix.lib.agents.source import read_kind
store = KindStore(Path(sys.argv[1]))
manifest, files = read_kind(Path(sys.argv[2]))
print(flush=True)
while True:
    store.install(manifest, files, {}, replace=True)
"""


@pytest.mark.slow
def test_a_kill_while_a_kind_is_replaced_leaves_one_that_is_whole(
    store: KindStore, tmp_path: Path
) -> None:
    source = folder(tmp_path / "source")
    install(store, source)
    for round in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", SERVER, tmp_path / "agents", source], stdout=subprocess.PIPE
        ) as server:
            assert server.stdout
            server.stdout.readline()
            # Somewhere within the first replacements.
            for _ in range(round * 3):
                store.get("tool").read("main.js")
            server.kill()
        assert store.get("tool").read("main.js") == b"1"
    install(store, source, replace=True)
    assert len(os.listdir(tmp_path / "agents")) == 2


@pytest.mark.slow
def test_two_that_replace_a_kind_leave_one(store: KindStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    install(store, source)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, tmp_path / "agents", source], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        server.stdout.readline()
        for _ in range(30):
            install(store, source, replace=True)
        assert server.poll() is None
        server.kill()
    install(store, source, replace=True)
    assert len(os.listdir(tmp_path / "agents")) == 2


def test_what_a_kill_left_of_a_replacement_is_swept_away(store: KindStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    install(store, source)
    kinds = tmp_path / "agents"
    (kinds / ".tool@1").mkdir()
    (kinds / ".tool@1-link").symlink_to(".tool@1")
    (kinds / ".tool@2-link").symlink_to("gone")
    install(store, source, replace=True)
    assert len(os.listdir(kinds)) == 2
    assert store.get("tool").read("main.js") == b"1"
