"""Command: a program that does a job: its input on stdin, its result on stdout."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import trio
from attrs import field, frozen

from oanix.dvm.request import Request
from oanix.lib.nostr import encode

JOB_FILE: Final = "job.json"
PID_FILE: Final = "pid"
JOB: Final = "OANIX_JOB"
"""The variable that names the job."""
CHUNK: Final = 65_536


class Failed(Exception):
    """A job could not be done. The sentence is published."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Handler(Protocol):
    """What does jobs."""

    async def run(self, request: Request, text: str, folder: Path) -> str:
        """Do a job and give its result; text: its inputs; folder: empty, and its own.

        Raises Failed. A cancelled one leaves nothing running.
        """

    def end_leftover(self, folder: Path) -> None:
        """End what runs yet of a job, in this folder, whose worker was killed."""


@frozen
class Command:
    """A program, started for each job in the job's folder, with `job.json` in it.

    What the program starts and leaves behind is killed with it. It has the rights of this process:
    what strangers send reaches its stdin and `job.json`, never its arguments.
    """

    words: Sequence[str]
    time_s: float = 60.0
    output_max: int = 65_536
    environment: Mapping[str, str] = field(factory=dict, repr=False)

    async def run(self, request: Request, text: str, folder: Path) -> str:
        """Do a job. Raises Failed when the program fails, takes too long or says too much."""
        await trio.Path(folder / JOB_FILE).write_bytes(encode(request.described()) + b"\n")
        environment = {**self.environment, JOB: request.id}
        try:
            process = await trio.lowlevel.open_process(
                [*self.words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError:
            # Why it cannot be started is nobody's business but the owner's.
            raise Failed("the program cannot be started") from None
        try:
            await trio.Path(folder / PID_FILE).write_text(f"{process.pid} {_began(process.pid)}\n")
            with trio.fail_after(self.time_s):
                said = await self._talk(process, text.encode())
        except trio.TooSlowError:
            raise Failed(f"the job took longer than {self.time_s:g} s") from None
        finally:
            await _end(process)
        code = process.returncode
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
            raise Failed(f"the program {how}")
        try:
            return said.decode()
        except UnicodeDecodeError:
            raise Failed("the result is no UTF-8") from None

    def end_leftover(self, folder: Path) -> None:
        """Kill the program that a worker left in this folder when it was killed itself."""
        try:
            pid, began = (folder / PID_FILE).read_text().split()
        except (FileNotFoundError, ValueError):
            # It was killed before it could write that, or after all was done.
            pid, began = _leader_in(folder), ""
        # The number alone could be another program's by now.
        if pid.isdigit() and (not began or _began(int(pid)) == began):
            with suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGKILL)

    async def _talk(self, process: trio.Process, text: bytes) -> bytes:
        said = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, process, text)
            nursery.start_soon(_end_group, process)
            assert process.stdout is not None
            async for piece in process.stdout:
                said += piece
                if len(said) > self.output_max:
                    nursery.cancel_scope.cancel()
                    break
        if len(said) > self.output_max:
            raise Failed(f"the result has more than {self.output_max} bytes")
        return bytes(said)


def _began(pid: int) -> str:
    """Tell when a process began, in ticks since the boot (proc(5), stat); empty for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _leader_in(folder: Path) -> str:
    """Give the number of the program that was started for a job in a folder; empty for none."""
    here = os.path.realpath(folder)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # Most are of others, or have ended by now.
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd") != here or os.getsid(int(pid)) != int(pid):
                continue
            # Somebody's shell may have gone there to look.
            if f"\0{JOB}=".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                return pid
    return ""


async def _tell(process: trio.Process, text: bytes) -> None:
    assert process.stdin is not None
    async with process.stdin:
        # A program need not read what it is told.
        with suppress(trio.BrokenResourceError):
            await process.stdin.send_all(text)


async def _end_group(process: trio.Process) -> None:
    """Kill what a program that has ended left behind: it may hold stdout open for ever."""
    descriptor = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    _kill(process)


def _kill(process: trio.Process) -> None:
    # Until it is waited for, which `_end` alone does, its number is its own, and its group's.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: trio.Process) -> None:
    _kill(process)
    with trio.CancelScope(shield=True):
        await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()
