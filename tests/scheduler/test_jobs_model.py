"""Jobs whatever is done to them: random commands, orders and restarts against a small model.

The model knows what each command must answer in each state, and that a job only goes forward: it
ends once, stays as it ended, over a restart too, and was tried no more often than it was ordered.
"""

import errno
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from oanix.scheduler.spec import parse_spec
from oanix.scheduler.turns import Room
from tests.scheduler.jobs_help import Jobs, jobs

MODULES = {"hello": "completed 0", "fails": "failed 3 exit", "trap": "failed trap unreachable",
           "echo": "", "spin": "", "bad": "failed error"}  # fmt: skip
VERBS = ["start", "kill", "kill TERM", "stop", "cont", "seal", "priority 5", "priority 1000", "fly",
         "start now", ""]  # fmt: skip

ORDER = st.tuples(
    st.just("order"), st.sampled_from(sorted(MODULES)), st.sampled_from([0, 1]),
    st.lists(st.integers(1, 6), max_size=2),
)  # fmt: skip
ACT = st.one_of(
    st.just(("new",)), ORDER, st.tuples(st.just("tell"), st.integers(1, 6), st.sampled_from(VERBS)),
    st.tuples(st.just("feed"), st.integers(1, 6)), st.just(("restart",)), st.just(("settle",)),
)  # fmt: skip


@define
class Known:
    """What the model knows of a job."""

    ended: str = ""
    retry: int = 0
    started: bool = False
    specs: dict[str, Any] = field(factory=dict)


class Model:
    def __init__(self, here: Jobs) -> None:
        self.here = here
        self.known: dict[int, Known] = {}

    async def act(self, act: tuple[Any, ...]) -> None:
        verb, *words = act
        await getattr(self, f"do_{verb}")(*words)
        await self.check()

    async def do_new(self) -> None:
        number = await self.here.new()
        assert number not in self.known
        self.known[number] = Known()

    async def do_order(self, module: str, retry: int, after: list[int]) -> None:
        number = await self.here.new()
        self.known[number] = Known(retry=retry)
        spec = {"module": f"/workspace/{module}.wasm", "worker": False, "after": after,
                "retry": {"times": retry, "on": ["exit", "interrupted"], "delay": "1ms"},
                "limits": {"wall": 20, "cpu": 10}}  # fmt: skip
        text = json.dumps(spec) + "\n"
        if number in after:
            with pytest.raises(OSError, match="does not come after itself"):
                await self.here.client.write(f"/jobs/{number}/spec", text, create=False)
            return
        await self.here.client.write(f"/jobs/{number}/spec", text, create=False)
        self.known[number].specs = spec
        if set(after) <= set(self.known):
            # It may be that one of them, refused so far, is to come after this one.
            self.known[number].started = not await self.refused(number, "start")
            assert self.known[number].started or self.circle(number)
        else:
            with pytest.raises(OSError, match="you have no job"):
                await self.here.tell(number, "start")

    async def do_tell(self, number: int, command: str) -> None:
        known = self.known.get(number)
        refused = await self.refused(number, command)
        if refused:
            assert refused in (errno.EINVAL, errno.ESRCH, errno.EBUSY) or known is None
            state = await self.here.fact(number, "state") if known else ""
            assert command not in ("kill", "stop", "cont") or state in ("", *ENDED)
            return
        assert known is not None
        assert command not in ("fly", "start now", "priority 1000")
        if command == "start":
            assert not known.started
            known.started = True
        if command.startswith("kill"):
            line = await self.here.wait(number)
            assert line == f"cancelled killed {[*command.split(), 'KILL'][1]}"

    def circle(self, number: int) -> bool:
        """Whether a job would wait for itself."""
        todo, seen = [number], set()
        while todo:
            known = self.known.get(todo.pop())
            for before in known.specs.get("after", ()) if known else ():
                if before == number:
                    return True
                todo += [before] if before not in seen else []
                seen.add(before)
        return False

    async def refused(self, number: int, command: str) -> int:
        try:
            await self.here.tell(number, command)
        except OSError as error:
            return error.errno or -1
        return 0

    async def do_feed(self, number: int) -> None:
        with suppress(OSError):
            await self.here.client.write(f"/jobs/{number}/stdin", b"x", create=False)

    async def do_restart(self) -> None:
        raise _Restart

    async def do_settle(self) -> None:
        for number, known in self.known.items():
            module = str(known.specs.get("module", ""))[11:-5]
            stopped = await self.here.fact(number, "stopped") == "yes"
            if known.started and MODULES.get(module) and not known.specs["after"] and not stopped:
                assert (await self.here.wait(number)).split(" ")[0] in ENDED

    async def check(self) -> None:
        assert {*map(str, self.known)} == {*self.here.client.listdir("/jobs")} - {"README", "new"}
        for number, known in self.known.items():
            lines = (await self.here.text(number, "status")).splitlines()
            facts = dict(line.split(" ", 1) for line in lines)
            assert int(facts["tries"]) <= known.retry + 1
            assert known.started or facts["tries"] == "0"
            if known.ended:
                assert f"{facts['state']} {facts['reason']}" == known.ended
            elif facts["state"] in ENDED:
                known.ended = f"{facts['state']} {facts['reason']}"
                assert facts["ended"] != "-"


ENDED = ("completed", "failed", "cancelled")


class _Restart(Exception):
    """The server ends, and another begins."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(deadline=None)
@given(st.lists(ACT, max_size=25))
def test_jobs_go_forward_whatever_is_done_to_them(acts: list[tuple[Any, ...]]) -> None:
    async def main(folder: Path) -> None:
        todo = [*acts, ("settle",)]
        known: dict[int, Known] = {}
        while todo:
            async with jobs(folder, room=Room(jobs=2, of_one=2)) as here:
                model = Model(here)
                model.known = known
                await model.check()
                with suppress(_Restart), trio.fail_after(60):
                    while todo:
                        await model.act(todo.pop(0))

    with tempfile.TemporaryDirectory() as folder:
        trio.run(main, Path(folder))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
KEYS = ["module", "kind", "args", "env", "stdin", "namespace", "grant", "limits", "priority",
        "retry", "timeout", "after", "name", "worker", "input", "modul"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4) | JSON)
@settings(deadline=None)
def test_any_json_is_a_specification_or_told_what_is_wrong_with_it(said: object) -> None:
    try:
        spec = parse_spec(json.dumps(said))
    except OSError as error:
        found = error
    else:
        assert parse_spec(spec.show()) == spec
        return
    assert found.errno in (errno.EINVAL, errno.E2BIG)
    assert found.strerror


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_any_bytes_are_a_specification_or_told_what_is_wrong_with_them(said: bytes) -> None:
    with suppress(OSError):
        parse_spec(said)
