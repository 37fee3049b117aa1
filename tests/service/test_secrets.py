"""SecretsFs: secrets are made, bound, replaced and removed by writing; nothing reads a value."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from click.testing import CliRunner
from trio.testing import MockClock, wait_all_tasks_blocked

from oanix.caller import Caller
from oanix.cli.secret import secret
from oanix.lib.vault import RingKey, Vault
from oanix.services.secrets import SecretsFs
from tests.mount.mounting import wait_until
from tests.reach import Reach, refused
from tests.service.vaults import PHRASE, RULE, VALUE, Ring, made, opened, sent

if TYPE_CHECKING:
    from oanix.service import Change

OWNER = Caller(uid=os.geteuid(), session="owner")
OTHER = Caller(uid=os.geteuid() + 1, session="other")
PAGE = Path(__file__).parents[2] / "docs/man/secrets.md"


def reach_of(vault: Vault, ring: Ring | None = None) -> Reach:
    return Reach.of(SecretsFs(vault, keyring=lambda: ring), OWNER, "/cap/secrets")


async def command(reach: Reach, path: str, *lines: str) -> None:
    """Write lines as a shell does, waiting where the server must."""
    file = await reach.open(f"/cap/secrets/{path}", os.O_WRONLY | os.O_TRUNC)
    try:
        await file.write(reach.caller, "".join(f"{line}\n" for line in lines).encode(), 0)
        file.flush()
    finally:
        file.close(reach.caller)


async def facts(reach: Reach, path: str) -> dict[str, str]:
    text = await reach.text(f"/cap/secrets/{path}")
    return dict(line.split(" ", 1) for line in text.splitlines())


async def everything(reach: Reach, path: str = "/cap/secrets") -> str:
    """Read all that can be read."""
    found = ""
    for name in reach.names(path):
        at = reach.at(f"{path}/{name}")
        if at.is_directory:
            found += await everything(reach, f"{path}/{name}")
        elif reach.stat(f"{path}/{name}").st_mode & 0o444:
            found += await reach.text(f"{path}/{name}")
    return found


async def test_a_secret_is_made_bound_and_set_by_writing(tmp_path: Path) -> None:
    vault = made(tmp_path)
    reach = reach_of(vault)
    await command(reach, "ctl", "new github")
    assert (await facts(reach, "github/info"))["state"] == "empty"
    await command(reach, "github/ctl", f"rule {RULE.format()}")
    await command(reach, "github/ctl", f"set {VALUE.decode()}")
    told = await facts(reach, "github/info")
    assert (told["state"], told["rule"], told["uses"]) == ("usable", RULE.format(), "0")
    assert told["last-used"] == "never"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["created"])
    assert sent(vault) == f"Bearer {VALUE.decode()}"
    assert (await facts(reach, "github/info"))["uses"] == "1"
    await command(reach, "github/ctl", "rotate another-value")
    assert sent(vault) == "Bearer another-value"
    shown = await everything(reach)
    assert VALUE.decode() not in shown
    assert "another-value" not in shown
    await command(reach, "github/ctl", "remove")
    assert "github" not in reach.names("/cap/secrets")
    with refused(errno.ENOENT):
        reach.at("/cap/secrets/github")


def test_the_tree_is_closed_to_others(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.new("demo")
    reach = reach_of(vault)
    assert reach.names("/cap/secrets") == ["README", "status", "ctl", "demo"]
    assert reach.names("/cap/secrets/demo") == ["info", "ctl"]
    modes = {
        path: reach.stat(f"/cap/secrets/{path}").st_mode & 0o777
        for path in (".", "status", "ctl", "demo", "demo/info", "demo/ctl")
    }
    assert modes == {
        ".": 0o500, "status": 0o400, "ctl": 0o200,
        "demo": 0o500, "demo/info": 0o400, "demo/ctl": 0o200,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["ctl", "demo/ctl"])
async def test_a_child_and_another_user_write_nothing(tmp_path: Path, path: str) -> None:
    vault = made(tmp_path)
    vault.set("demo", VALUE, RULE)
    reach = reach_of(vault)
    child = Reach(reach.namespace.fork(), OWNER)
    with refused(errno.EPERM, "a child's"):
        await command(child, path, "remove demo")
    with refused(errno.EACCES, "the user who runs the server"):
        await command(reach.by(OTHER), path, "remove demo")
    with refused(errno.EACCES):
        await reach.open(f"/cap/secrets/{path}")
    assert (await facts(child, "demo/info"))["state"] == "usable"


def test_nothing_is_made_or_removed_by_name(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.new("demo")
    reach = reach_of(vault)
    with refused(errno.EROFS):
        reach.at("/cap/secrets").mkdir(OWNER, "new", 0o700)
    with refused(errno.EROFS):
        reach.at("/cap/secrets").rmdir(OWNER, "demo")


@pytest.mark.parametrize(
    ("path", "line", "number", "sentence"),
    [
        ("ctl", "hunter2-hunter2", errno.EINVAL, "write one of: new, remove, lock, unlock"),
        ("demo/ctl", "hunter2-hunter2", errno.EINVAL, "write one of: set, rotate, rule, remove"),
        ("demo/ctl", "Set hunter2-hunter2", errno.EINVAL, "write one of"),
        ("demo/ctl", "set", errno.EINVAL, "empty"),
        ("demo/ctl", "set abc", errno.EINVAL, "at least 4"),
        ("demo/ctl", "set hunter2\thunter2", errno.EINVAL, "control"),
        ("demo/ctl", "set hunter2\0hunter2", errno.EINVAL, "NUL"),
        ("demo/ctl", "set hunter2\r", errno.EINVAL, "line end"),
        ("demo/ctl", "set hunter2\udcff", errno.EINVAL, "UTF-8"),
        ("demo/ctl", "set " + "hunter2" * 9363, errno.EMSGSIZE, "at most 65536"),
        ("demo/ctl", "set " + "hunter2" * 200_000, errno.EINVAL, "a line has at most"),
        ("demo/ctl", "rotate hunter2", errno.ENOENT, "no value yet"),
        ("demo/ctl", "rule GET * header A: {}", errno.EINVAL, "never to every one"),
        ("demo/ctl", "remove hunter2", errno.EINVAL, "stands alone"),
        ("ctl", "lock hunter2", errno.EINVAL, "stands alone"),
        ("ctl", "new demo", errno.EEXIST, "already"),
        ("ctl", "new a..b", errno.EINVAL, "no '..'"),
        ("ctl", "new " + "a" * 65, errno.ENAMETOOLONG, "at most 64"),
        ("ctl", "new", errno.ENOENT, "empty"),
        ("ctl", "remove nothing", errno.ENOENT, "no secret"),
    ],
)
async def test_a_command_that_is_none_is_refused_and_not_repeated(
    tmp_path: Path, path: str, line: str, number: int, sentence: str
) -> None:
    vault = made(tmp_path)
    vault.new("demo")
    reach = reach_of(vault)
    file = await reach.open(f"/cap/secrets/{path}", os.O_WRONLY)
    with pytest.raises(OSError, match=sentence) as caught:
        await file.write(OWNER, line.encode("utf-8", "surrogateescape") + b"\n", 0)
    file.close(OWNER)
    assert caught.value.errno == number
    assert "hunter2" not in str(caught.value)
    assert vault.info("demo").state == "empty"


async def test_half_a_line_does_nothing_and_is_not_repeated(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.new("demo")
    reach = reach_of(vault)
    await reach.write("/cap/secrets/demo/ctl", "set hunter2")
    assert vault.info("demo").state == "empty"
    told = " ".join(reach.namespace.sentences.of(OWNER))
    assert "no newline" in told
    assert "hunter2" not in told


async def test_the_longest_value_fits_and_comes_in_pieces(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("demo", VALUE, RULE)
    reach = reach_of(vault)
    file = await reach.open("/cap/secrets/demo/ctl", os.O_WRONLY)
    line = b"set " + b"x" * 65_536 + b"\n"
    for at in range(0, len(line), 4096):
        assert await file.write(OWNER, line[at : at + 4096], at)
    file.close(OWNER)
    assert sent(vault) == "Bearer " + "x" * 65_536


async def test_several_commands_in_one_write_are_done_in_order(tmp_path: Path) -> None:
    vault = made(tmp_path)
    reach = reach_of(vault)
    await command(reach, "ctl", "new a", "", "new b", "remove a")
    assert vault.names() == ["b"]


async def test_a_vault_is_unlocked_by_its_passphrase(tmp_path: Path) -> None:
    made(tmp_path).set("demo", VALUE, RULE)
    vault = opened(tmp_path)
    reach = reach_of(vault)
    assert await facts(reach, "status") == {
        "vault": "locked", "kept-by": "passphrase", "secrets": "1",
    }  # fmt: skip
    assert (await facts(reach, "demo/info"))["state"] == "locked"
    with refused(errno.EACCES, "not the passphrase"):
        await command(reach, "ctl", "unlock hunter2-hunter2")
    with refused(errno.EINVAL, "unlock PASSPHRASE"):
        await command(reach, "ctl", "unlock")
    with refused(errno.EACCES, "locked"):
        await command(reach, "demo/ctl", "set some-value")
    await command(reach, "ctl", "unlock correct horse", "new other")
    assert vault.unlocked
    assert vault.names() == ["demo", "other"]
    assert (await facts(reach, "status"))["vault"] == "unlocked"
    await command(reach, "ctl", "lock")
    assert not vault.unlocked


async def test_a_passphrase_in_pieces_unlocks_and_a_second_try_in_one_open_too(
    tmp_path: Path,
) -> None:
    made(tmp_path)
    vault = opened(tmp_path)
    reach = reach_of(vault)
    file = await reach.open("/cap/secrets/ctl", os.O_WRONLY)
    with refused(errno.EACCES):
        await file.write(OWNER, b"unlock a wrong one\n", 0)
    await file.write(OWNER, b"unlock corr", 0)
    await file.write(OWNER, b"ect horse\n", 0)
    file.close(OWNER)
    assert vault.unlocked
    with refused(errno.EINVAL, "in a write of its own"):
        await command(reach, "ctl", "", "unlock correct horse")


async def test_a_vault_is_unlocked_by_the_keyring(tmp_path: Path) -> None:
    ring = Ring()
    opened(tmp_path).protect(RingKey(ring))
    vault = opened(tmp_path)
    with refused(errno.EACCES, "no OS keyring"):
        await command(reach_of(vault), "ctl", "unlock")
    await command(reach_of(vault, ring), "ctl", "unlock")
    assert vault.unlocked


async def test_without_a_vault_the_tree_is_empty_and_says_how_to_make_one(tmp_path: Path) -> None:
    reach = reach_of(opened(tmp_path))
    assert reach.names("/cap/secrets") == ["README", "status", "ctl"]
    assert (await facts(reach, "status"))["vault"] == "none"
    for line in ("unlock", "unlock correct horse", "new demo"):
        with refused(errno.ENOENT, "oanix secret set"):
            await command(reach, "ctl", line)
    assert "hunter" not in await everything(reach)


async def test_what_another_process_changes_shows_at_the_next_look(tmp_path: Path) -> None:
    other = made(tmp_path)
    vault = opened(tmp_path)
    reach = reach_of(vault)
    other.set("demo", VALUE, RULE)
    assert reach.names("/cap/secrets")[-1] == "demo"
    first = reach.at("/cap/secrets/demo").node.qid
    info = await reach.open("/cap/secrets/demo/info")
    assert reach.at("/cap/secrets/demo").node.qid == first
    other.remove("demo")
    assert "demo" not in reach.names("/cap/secrets")
    assert b"demo" in info.try_read(OWNER, 100, 0)
    info.close(OWNER)
    other.set("demo", VALUE, RULE)
    assert reach.at("/cap/secrets/demo").node.qid != first


async def test_an_open_directory_of_a_removed_secret_reads_enoent(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.new("demo")
    reach = reach_of(vault)
    info, ctl = reach.at("/cap/secrets/demo/info"), reach.at("/cap/secrets/demo/ctl")
    vault.remove("demo")
    with refused(errno.ENOENT):
        await info.open(OWNER, os.O_RDONLY)
    file = await ctl.open(OWNER, os.O_WRONLY)
    with refused(errno.ENOENT):
        await file.write(OWNER, b"remove\n", 0)
    file.close(OWNER)


async def test_names_that_come_and_go_are_announced(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    service = SecretsFs(made(tmp_path))
    seen: list[Change] = []
    service.changes.subscribe(seen.append)
    reach = Reach.of(service, OWNER, "/cap/secrets")
    await command(reach, "ctl", "new one")
    assert [change.name for change in seen if change.name] == ["one"]
    other = opened(tmp_path)
    other.unlock(PHRASE)
    async with service.running():
        other.new("two")
        await trio.sleep(6)
        assert [change.name for change in seen if change.name] == ["one", "two"]


async def test_uses_are_stored_while_it_runs_and_when_it_ends(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    vault = made(tmp_path)
    vault.set("demo", VALUE, RULE)
    service = SecretsFs(vault)
    async with service.running():
        sent(vault)
        await wait_all_tasks_blocked()
        assert opened(tmp_path).info("demo").uses == 0
        await trio.sleep(6)
        assert opened(tmp_path).info("demo").uses == 1
        sent(vault)
    assert opened(tmp_path).info("demo").uses == 2


def test_a_locked_and_a_damaged_vault_are_warnings(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("demo", VALUE, RULE)
    service = SecretsFs(vault)
    assert service.status() == {"vault": "unlocked", "kept-by": "passphrase", "secrets": "1"}
    vault.lock()
    assert "oanix secret unlock" in service.status()["warning"]
    vault.unlock(PHRASE)
    with vault._rows.transaction():
        vault._rows._make().execute("UPDATE secret SET rule = 'x'")
    assert service.status()["warning"] == "changed outside this program: demo"


SERVER = """
import sys, signal, trio
from pathlib import Path
from mounts.fuse import serve
from mounts.options import FuseOptions
from oanix.namespace import Namespace
from oanix.services.secrets import SecretsFs
from tests.service.vaults import made

async def main(mountpoint, folder):
    namespace = Namespace()
    service = SecretsFs(made(Path(folder)), keyring=lambda: None)
    namespace.mount(service, "/cap/secrets")
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with service.running(), trio.open_nursery() as nursery:
            async def end():
                async for _ in signals:
                    nursery.cancel_scope.cancel()
            nursery.start_soon(end)
            await serve(namespace, mountpoint, FuseOptions())

trio.run(main, *sys.argv[1:])
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A namespace with an unlocked vault at /cap/secrets."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, mountpoint, tmp_path],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    try:
        wait_until(lambda: os.path.ismount(mountpoint) or server.poll() is not None)
        yield mountpoint
    finally:
        server.terminate()
        assert server.wait(20) == 0


@pytest.mark.fuse
@pytest.mark.slow
def test_the_examples_of_the_page_work_when_it_is_mounted(mounted: Path) -> None:
    sessions = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert sessions
    for session in sessions:
        done = subprocess.run(
            ["bash", "-euc", session], cwd=mounted / "cap/secrets", capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.fuse
@pytest.mark.slow
def test_a_mounted_vault_is_unlocked_through_its_files(mounted: Path, tmp_path: Path) -> None:
    ctl, status = mounted / "cap/secrets/ctl", mounted / "cap/secrets/status"
    ctl.write_text("lock\n")
    with pytest.raises(PermissionError):
        ctl.write_text("unlock a wrong one\n")
    assert "vault locked" in status.read_text()
    file = tmp_path / "passphrase"
    file.touch(0o600)
    for text, code, says in (
        ("a wrong one", 1, "not the passphrase"),
        ("correct horse\n", 0, ""),
        ("correct horse\n", 0, "unlocked already"),
    ):
        file.write_text(text)
        words = ["unlock", str(mounted), "--passphrase-file", str(file)]
        done = CliRunner().invoke(secret, words)
        assert done.exit_code == code
        assert says in (str(done.exception) if code else done.output)
    assert "vault unlocked" in status.read_text()
