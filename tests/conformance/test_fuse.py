"""The acceptance suite through the FUSE door: plain calls beneath a mount point."""

import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import cases_attributes, cases_files, cases_mounts, cases_names
from tests.conformance.doors import HostDoor
from tests.conformance.suite import CASES, Capability, Case, run

SERVER = Path(__file__).parent / "server.py"
READY_S = 20

MODULES = (cases_attributes, cases_files, cases_mounts, cases_names)

SLOW = {
    "many_names_are_listed_once_each",
    "a_file_has_a_thousand_names",
    "what_is_written_is_read",
}

DIFFERENCES: dict[str, str] = {}
"""Cases that end otherwise through FUSE, and the standard that forces it."""


@pytest.fixture(scope="module", params=["MemFs", "WorkspaceFs"])
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostDoor]:
    """A mount of a process of its own, for all cases."""
    base = tmp_path_factory.mktemp(request.param)
    for name in ("mnt", "host"):
        (base / name).mkdir()
    with (base / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, SERVER, request.param, base / "mnt", base / "host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )
    assert process.stdout is not None
    assert process.stdin is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_S)
    told = process.stdout.readline() if ready else b""
    if told == b"mounted\n":
        yield HostDoor(str(base / "mnt"))
    process.stdin.close()
    code = process.wait(READY_S)
    process.stdout.close()
    assert (told, code) == (b"mounted\n", 0), (base / "log").read_text()


def marked(one: Case) -> Any:
    marks = [pytest.mark.slow] if one.name in SLOW else []
    if one.name in DIFFERENCES:
        marks.append(pytest.mark.xfail(reason=DIFFERENCES[one.name]))
    return pytest.param(one, id=one.name, marks=marks)


@pytest.mark.fuse
@pytest.mark.parametrize("one", [marked(one) for one in CASES.values()])
def test_a_mount_keeps_the_promise(door: HostDoor, one: Case) -> None:
    assert one.needs <= frozenset(Capability)
    run(one, door)
