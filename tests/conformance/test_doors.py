"""The acceptance suite, run through the host, through the kernel, and over each file service."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from oanix.namespace import Namespace
from oanix.service import Service
from oanix.services.memfs import MemFs
from oanix.services.workspace import WorkspaceFs
from tests.conformance import cases_attributes, cases_files, cases_mounts, cases_names
from tests.conformance.doors import HostDoor, KernelDoor
from tests.conformance.suite import (
    CASES,
    POSIX,
    Capability,
    Case,
    Door,
    applicable,
    arrange,
    case,
    column,
    put,
    run,
    table,
)
from tests.conformance.wasi_door import wasi_door

MODULES = (cases_attributes, cases_files, cases_mounts, cases_names)

SERVICES: dict[str, Callable[[Path], Service]] = {
    "MemFs": lambda _: MemFs(),
    "WorkspaceFs": lambda folder: WorkspaceFs(folder),
}


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[Namespace]:
    """Serve a service as a whole namespace, with the mounts that the cases expect."""
    async with service.running():
        namespace = Namespace()
        namespace.mount(service, "/")
        arrange(namespace)
        yield namespace


@asynccontextmanager
async def kernel_door(service: Service) -> AsyncIterator[Door]:
    """Serve a service through the kernel alone."""
    async with served(service) as namespace:
        yield KernelDoor(namespace)


SLOW = {"many_names_are_listed_once_each", "a_file_has_a_thousand_names"}


def cases(capabilities: Collection[Capability]) -> list[Any]:
    return [
        pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.name in SLOW else [])
        for one in applicable(capabilities)
    ]


@pytest.mark.parametrize("one", cases(POSIX))
def test_the_host_keeps_the_promise(one: Case, tmp_path: Path) -> None:
    run(one, HostDoor(str(tmp_path)))


@pytest.mark.parametrize("one", cases(frozenset(Capability)))
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_keeps_the_promise_through_the_kernel(
    service: str, one: Case, tmp_path: Path
) -> None:
    async with kernel_door(SERVICES[service](tmp_path)) as door:
        await trio.to_thread.run_sync(run, one, door)


WASI = frozenset(Capability) - {
    Capability.XATTRS, Capability.CHMOD, Capability.CHOWN, Capability.RENAME_FLAGS,
    Capability.STATVFS,
}  # fmt: skip
"""What the interface has: WASI preview 1 knows no modes, owners, extended attributes, flags of a
rename, and figures of a storage."""

WASI_DIFFERENCES = {
    "parents_of_the_top_do_not_leave_it":
        "WASI preview 1: a path that leads out of the directory it begins at is ENOTCAPABLE",
    "a_symbolic_link_keeps_what_was_written":
        "WASI preview 1: the target of a link that is made does not begin with /",
}  # fmt: skip
"""Where this door must end otherwise, and the standard that forces it."""


@pytest.mark.parametrize("one", cases(WASI))
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_keeps_the_promise_through_wasi(
    service: str, one: Case, tmp_path: Path
) -> None:
    async with served(SERVICES[service](tmp_path)) as namespace, wasi_door(namespace) as door:
        if one.name in WASI_DIFFERENCES:
            with pytest.raises((AssertionError, OSError)):
                await trio.to_thread.run_sync(run, one, door)
        else:
            await trio.to_thread.run_sync(run, one, door)


def test_every_function_of_the_modules_of_cases_is_in_the_table() -> None:
    written = {
        name
        for module in MODULES
        for name, found in vars(module).items()
        if callable(found) and getattr(found, "__module__", "") == module.__name__
    }
    assert written == set(CASES)


def test_a_case_that_needs_more_than_a_door_has_is_not_run() -> None:
    assert (
        len(applicable([]))
        < len(applicable(POSIX))
        < len(applicable(frozenset(Capability)))
        == len(CASES)
    )


@pytest.mark.slow
async def test_the_table_has_one_column_a_door_and_says_what_differs(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    columns = [column("host", HostDoor(str(tmp_path / "host")), POSIX)]
    async with kernel_door(MemFs()) as door:
        columns.append(await trio.to_thread.run_sync(column, "MemFs", door, frozenset(Capability)))
    text = table(columns)
    lines = text.splitlines()
    assert lines[0] == "| case | host | MemFs |"
    assert len(lines) == 2 + len(CASES)
    assert "| a union merges its members | — | yes |" in lines
    assert "**no**" not in text


@pytest.mark.slow
def test_a_door_that_breaks_a_promise_is_found_out(tmp_path: Path) -> None:
    class Forgetful(HostDoor):
        def write(self, fd: int, data: bytes) -> int:
            return len(data)

    outcomes = column(
        "x", Forgetful(str(tmp_path)), [], {"what_is_written_is_read": "no disk"}
    ).outcomes
    assert outcomes["a_new_file_is_empty"] == ""
    assert outcomes["what_is_written_is_read"] != ""


def test_two_cases_of_one_name_are_refused() -> None:
    def what_is_written_is_read(door: Door) -> None:
        put(door, "f")

    with pytest.raises(AssertionError, match="two cases"):
        case()(what_is_written_is_read)
