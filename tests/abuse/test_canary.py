"""A secret is used through a real mount and then looked for everywhere: it is nowhere."""

import base64
import errno
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from attrs import frozen

from oanix.lib.vault.forms import forms
from tests.commands import Oanix
from tests.reach import refused
from tests.web.server import Server, serve

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

CANARY = f'c/{secrets.token_hex(12)}+"q%/{secrets.token_hex(4)}'
FORMS = forms(CANARY)
PATIENCE_S = 20

GUEST = """
import json, os, sys
cap, port = sys.argv[1:]
held = []
talk = os.open(f"{cap}/http/call", os.O_RDWR)
for path in sys.stdin.readline().split():
    for method in ("GET", "POST"):
        ask = {"method": method, "url": f"http://127.0.0.1:{port}{path}",
               "headers": {"Authorization": "mine", "Range": "bytes=0-9"}}
        os.write(talk, json.dumps(ask).encode() + b"\\n")
        answer = b""
        while not answer.endswith(b"\\n"):
            answer += os.read(talk, 1 << 20)
        held.append(answer)
    with open(f"{cap}/http/get/http/127.0.0.1:{port}/{path[1:].replace('/', '%2F')}", "rb") as file:
        held.append(file.read())
print(json.dumps([piece.decode("latin-1") for piece in held]), flush=True)
sys.stdin.readline()
"""


@frozen
class Scene:
    """A mount with a secret, and the server that the secret is for."""

    oanix: Oanix
    mnt: Path
    server: Server


def _says(oanix: Oanix, *words: str | Path, stdin: bytes = b"") -> bytes:
    done = oanix(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Oanix]:
    """The command line, with a passphrase in a file, and nothing mounted in the end."""
    (tmp_path / "here").mkdir()
    (tmp_path / "mnt").mkdir()
    phrase = tmp_path / "phrase"
    phrase.touch(0o600)
    phrase.write_text("correct horse battery\n")
    oanix = Oanix(
        tmp_path / "state", tmp_path / "here", {"OANIX_PASSPHRASE_FILE": os.fspath(phrase)}
    )
    yield oanix
    oanix("unmount", "--lazy", tmp_path / "mnt")


def _set_up(oanix: Oanix, mnt: Path, server: Server) -> Scene:
    where = f"http://127.0.0.1:{server.port}/**"
    value = CANARY.encode()
    header = ("--header", "Authorization: Bearer {}")
    _says(oanix, "secret", "set", "canary", "--url", where, *header, stdin=value)
    _says(oanix, "secret", "set", "asked", "--url", where, "--query", "key={}", stdin=value)
    _says(oanix, "mount", "--daemon", mnt)
    (mnt / "cap/http/policy").write_text(f"allow * {where}\n")
    _answers(server)
    return Scene(oanix, mnt, server)


def _answers(server: Server) -> None:
    """Have the server give the value in every way that a server may."""
    raw = CANARY.encode()
    # A border of what is read at once, wherever it lies, goes through one of these.
    straddling = b"".join(b"x" * (4096 - 7 * i) + raw for i in range(40))
    coded = [base64.b64encode(b"-" * lead + raw + b"tail") for lead in range(3)]
    coded += [base64.urlsafe_b64encode(b"-" * lead + raw) for lead in range(3)]
    text = [raw, quote(CANARY).encode(), quote(CANARY, safe="").lower().encode()]
    server.files["straddling"] = (), straddling
    server.files["coded"] = (), b"\n".join([*coded, *text, json.dumps(CANARY).encode()])
    server.files["header"] = (("X-Echo", CANARY.replace('"', "")), ("X-Raw", CANARY)), b"see above"


PATHS = "/echo /file/straddling /file/coded /file/header"


async def test_a_secret_reaches_its_server_and_nothing_else(home: Oanix, tmp_path: Path) -> None:
    async with serve() as server:
        scene = await trio.to_thread.run_sync(_set_up, home, tmp_path / "mnt", server)
        await trio.to_thread.run_sync(_use_and_look, scene)
        carried = [one for one in server.asked if one.path == "/echo"]
        assert len(carried) == 3
        for one in carried:
            assert one.header("authorization") == f"Bearer {CANARY}"
            assert one.query["key"] == CANARY
            assert one.header("range") == ""


def _use_and_look(scene: Scene) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GUEST, scene.mnt / "cap", str(scene.server.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=scene.mnt,
    ) as guest:  # fmt: skip
        assert guest.stdin is not None
        assert guest.stdout is not None
        guest.stdin.write(PATHS.encode() + b"\n")
        guest.stdin.flush()
        answers = json.loads(guest.stdout.readline())
        _look_at_answers([answer.encode("latin-1") for answer in answers])
        _look_at_memory(guest.pid)
        guest.stdin.close()
        assert guest.wait(PATIENCE_S) == 0
    _break_things(scene)
    _look_at_tree(scene.mnt)
    _look_at_commands(scene)
    _look_at_processes()
    _look_at_disk(scene.oanix.state)


def _absent(data: bytes, where: object) -> None:
    found = [form for form in FORMS if form in data]
    assert not found, f"{where} has the value as {found[0]!r}"


def _look_at_answers(answers: list[bytes]) -> None:
    assert len(answers) == 12
    for answer in answers:
        _absent(answer, "an answer")
        assert b"*" * 8 in answer or b"see above" in answer
        assert b"mine" not in answer


def _look_at_memory(pid: int) -> None:
    """Search what a core file of the guest would hold."""
    size = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end, mode = re.match(r"(\w+)-(\w+) (\S+)", line).groups()  # type: ignore[union-attr]
            if not mode.startswith("rw"):
                continue
            try:
                memory.seek(int(start, 16))
                region = memory.read(int(end, 16) - int(start, 16))
            except (OSError, OverflowError):
                continue  # a page of the kernel's, such as [vvar]
            size += len(region)
            _absent(region, line)
    assert size > 1 << 20


def _break_things(scene: Scene) -> None:
    """Have errors told that might quote what was asked."""
    cap, port = scene.mnt / "cap", scene.server.port
    host = cap / f"http/get/http/127.0.0.1:{port}"
    for number, path in (
        (errno.ENOENT, host / "missing"),
        (errno.EIO, host / "status%2F500"),
        (errno.ECONNRESET, host / "reset"),
        (errno.EACCES, host / f"to?url=http:%2F%2F127.0.0.2:{port}%2Fecho"),
        (errno.EACCES, cap / f"http/get/http/127.0.0.2:{port}/echo"),
        (errno.ENOENT, cap / "secrets/canary/value"),
    ):
        with refused(number):
            path.read_bytes()


STREAMS = ("follow", "log", "zero", "full", "random", "new")


def _look_at_tree(mnt: Path) -> None:
    """Read every file of the namespace, the streams too, as far as they go."""
    seen = 0
    for folder, folders, files in os.walk(mnt):
        _absent(os.fsencode("\n".join([*folders, *files])), folder)
        for name in files:
            seen += 1
            _absent(_content(Path(folder) / name), f"{folder}/{name}")
    for stream in ("cap/http/log", "logs/follow"):
        _absent(_content(mnt / stream), stream)
    assert _content(mnt / "cap/http/log").count(b"\n") > 10
    assert seen > 15


def _content(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        return b""  # a command sink
    pieces = []
    try:
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
            if path.name in STREAMS and len(piece) == 1 << 20:
                break
    except BlockingIOError:
        pass  # a stream has nothing more to say
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def _look_at_commands(scene: Scene) -> None:
    for words in (
        ("secret", "list", "--json"), ("secret", "info", "canary"), ("ps", "--json"),
        ("secret", "set", "canary", "--url", "*", "--header", "X: {}"),
    ):  # fmt: skip
        done = scene.oanix(*words, stdin=CANARY.encode())
        _absent(done.stdout + done.stderr, words)


def _look_at_processes() -> None:
    """Search the environments and command lines of all processes."""
    seen = 0
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            try:
                data = (folder / name).read_bytes()
            except OSError:
                continue  # it has ended, or belongs to another
            seen += 1
            _absent(data, folder / name)
    assert seen > 2


def _look_at_disk(state: Path) -> None:
    """Search the state folder: database, write-ahead log, logs, journal, policy."""
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {"vault.db", "policy"} <= {path.name for path in files}
    for path in files:
        _absent(path.read_bytes(), path)
