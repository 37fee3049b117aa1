"""OanixEnv: what runs, what is locked, and that all of it ends."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from oanix.assembly import Context, default_lines, place
from oanix.client import Client
from oanix.env import Busy, OanixEnv, runs, state_folder
from oanix.env.environment import Serving
from oanix.env.state import Holder, lock
from oanix.recipe import Mount, Placed, RecipeError, parse


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.fixture
def served(tmp_path: Path, state: str) -> tuple[list[Placed], Context]:
    """The default namespace of a directory."""
    project = tmp_path / "project"
    project.mkdir()
    return place(default_lines(str(project), state)), Context(str(project))


def serving(mountpoint: str = "/mnt/here") -> Serving:
    return Serving(mountpoint=mountpoint, serves="/project")


async def test_an_environment_serves_its_namespace_while_it_is_open(
    served: tuple[list[Placed], Context], state: str, tmp_path: Path
) -> None:
    async with OanixEnv.open(*served, state=state) as env:
        client = Client(env.namespace)
        await client.write("/workspace/x", "hello")
        await client.write("/logs/a.log", "line\n", append=True)
        await client.write("/dist/built", "out")
    assert (tmp_path / "project" / "x").read_text() == "hello"
    async with OanixEnv.open(*served, state=state) as env:
        assert await Client(env.namespace).read_text("/logs/a.log") == "line\n"
        assert await Client(env.namespace).read_text("/dist/built") == "out"


async def test_nothing_is_written_into_the_served_directory(
    served: tuple[list[Placed], Context], state: str, tmp_path: Path
) -> None:
    async with OanixEnv.open(*served, state=state, serving=serving()):
        pass
    assert list((tmp_path / "project").iterdir()) == []


async def test_the_state_folder_is_closed_to_others(
    served: tuple[list[Placed], Context], state: str
) -> None:
    async with OanixEnv.open(*served, state=state):
        assert stat.S_IMODE(os.stat(state).st_mode) == 0o700


async def test_a_state_folder_that_others_may_write_to_is_refused(
    served: tuple[list[Placed], Context], tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    with pytest.raises(PermissionError, match="chmod 700"):
        async with OanixEnv.open(*served, state=str(tmp_path / "open")):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
async def test_a_state_folder_of_another_user_is_refused(
    served: tuple[list[Placed], Context], tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir(0o755)
    os.chown(tmp_path / "theirs", 1000, 1000)
    with pytest.raises(PermissionError, match="belongs to user 1000"):
        async with OanixEnv.open(*served, state=str(tmp_path / "theirs")):
            pass


async def test_a_server_that_may_hold_secrets_leaves_no_core_file(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    lines, state = place([Mount("secrets", "/secrets")]), str(tmp_path / "state")
    try:
        async with OanixEnv.open(lines, Context("/"), state=state, serving=serving()):
            assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_the_state_folder_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OANIX_STATE", "relative/state")
    assert state_folder() == os.path.abspath("relative/state")
    monkeypatch.setenv("OANIX_STATE", "")
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert state_folder() == "/somewhere/oanix"


async def test_a_second_server_of_a_directory_is_refused_by_name(
    served: tuple[list[Placed], Context], state: str
) -> None:
    async with OanixEnv.open(*served, state=state, serving=serving()):
        with pytest.raises(Busy, match=f"process {os.getpid()} at /mnt/here") as caught:
            async with OanixEnv.open(*served, state=state, patience_s=60):
                pass
        assert caught.value.errno == errno.EAGAIN
    async with OanixEnv.open(*served, state=state):
        pass


async def test_who_has_no_mount_point_is_waited_for(
    served: tuple[list[Placed], Context], state: str
) -> None:
    order = []

    async def second() -> None:
        async with OanixEnv.open(*served, state=state, patience_s=60):
            order.append("second")

    async with trio.open_nursery() as nursery, OanixEnv.open(*served, state=state):
        nursery.start_soon(second)
        await trio.testing.wait_all_tasks_blocked()
        order.append("first")
    assert order == ["first", "second"]


async def test_each_that_has_a_lock_before_one_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def pid() -> int:
        return int(trio.current_time() - began) // 4

    @contextmanager
    def attempt() -> Iterator[bool]:
        yield pid() == 5

    with ExitStack() as held:
        began = trio.current_time()
        await lock(held, attempt, lambda: Holder(pid()), what="this", patience_s=5)
        assert trio.current_time() - began == pytest.approx(20, abs=1)
        began = trio.current_time()
        with pytest.raises(Busy, match="process 7"):
            await lock(held, attempt, lambda: Holder(7), what="this", patience_s=5)
        assert trio.current_time() - began == pytest.approx(5, abs=1)


async def test_two_directories_are_served_at_the_same_time(tmp_path: Path, state: str) -> None:
    async with trio.open_nursery():
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        a, b = (place(default_lines(str(tmp_path / name), state)) for name in "ab")
        context = Context("/")
        async with (
            OanixEnv.open(a, context, state=state, serving=serving("/mnt/a")),
            OanixEnv.open(b, context, state=state, serving=serving("/mnt/b")),
        ):
            assert [run.mountpoint for run in runs(state)] == ["/mnt/a", "/mnt/b"]
    assert runs(state) == []


async def test_logs_elsewhere_have_one_server_too(tmp_path: Path, state: str) -> None:
    (tmp_path / "logs").mkdir()
    lines, context = parse("mount logs:logs /l"), Context(str(tmp_path))
    async with OanixEnv.open(lines, context, state=state, serving=serving()):
        with pytest.raises(Busy, match=f"{tmp_path}/logs is served by process .* at /mnt/here"):
            async with OanixEnv.open(lines, context, state=state):
                pass


async def test_a_workspace_can_have_several_servers(tmp_path: Path, state: str) -> None:
    lines, context = parse(f"mount workspace:{tmp_path} /w"), Context("/")
    async with (
        OanixEnv.open(lines, context, state=state),
        OanixEnv.open(lines, context, state=state) as second,
    ):
        assert Client(second.namespace).exists("/w")


async def test_a_recipe_that_cannot_be_built_leaves_no_lock(
    served: tuple[list[Placed], Context], state: str
) -> None:
    lines, context = served
    bad = [*lines, *parse("bind /none /x")]
    with pytest.raises(RecipeError):
        async with OanixEnv.open(bad, context, state=state, serving=serving()):
            pass
    assert runs(state) == []
    async with OanixEnv.open(lines, context, state=state):
        pass


async def test_what_goes_wrong_inside_stops_everything(
    served: tuple[list[Placed], Context], state: str
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with OanixEnv.open(*served, state=state, serving=serving()):
            raise ValueError("mine")
    assert caught.value.subgroup(ValueError) is not None
    assert runs(state) == []
    async with OanixEnv.open(*served, state=state):
        pass


async def test_a_cancelled_environment_is_free_again(
    served: tuple[list[Placed], Context], state: str
) -> None:
    with trio.CancelScope() as scope:
        async with OanixEnv.open(*served, state=state, serving=serving()):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert runs(state) == []
    async with OanixEnv.open(*served, state=state):
        pass
