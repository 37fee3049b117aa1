"""System: arguments, environment, clocks, randomness, and the end."""

import errno
from collections.abc import Awaitable

import trio

from oanix.errors import fault
from oanix.scheduler.engine import Exit, Memory
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import Clock
from oanix.scheduler.wasi.process import Process

RESOLUTION_NS = 1
PIECE = 1 << 16
"""Random bytes that are made between two turns of other tasks."""


def _put_texts(memory: Memory, texts: list[bytes], pointers: int, at: int) -> int:
    for index, text in enumerate(texts):
        memory.put_u32(pointers + 4 * index, at)
        memory.write(at, text)
        at += len(text)
    return 0


def _put_sizes(memory: Memory, texts: list[bytes], count: int, size: int) -> int:
    memory.put_u32(count, len(texts))
    memory.put_u32(size, sum(map(len, texts)))
    return 0


def args_get(process: Process, memory: Memory, pointers: int, at: int) -> int:
    """Give the arguments."""
    return _put_texts(memory, process.args, pointers, at)


def args_sizes_get(process: Process, memory: Memory, count: int, size: int) -> int:
    """Give how many arguments there are, and their bytes."""
    return _put_sizes(memory, process.args, count, size)


def environ_get(process: Process, memory: Memory, pointers: int, at: int) -> int:
    """Give the environment."""
    return _put_texts(memory, process.env, pointers, at)


def environ_sizes_get(process: Process, memory: Memory, count: int, size: int) -> int:
    """Give how many variables there are, and their bytes."""
    return _put_sizes(memory, process.env, count, size)


def clock_now(process: Process, clock: int) -> int:
    """Read a clock, in nanoseconds. Raises OSError EINVAL for one that there is not."""
    if clock == Clock.REALTIME:
        return process.now_ns()
    if clock == Clock.MONOTONIC:
        return process.monotonic_ns()
    if clock in (Clock.PROCESS_CPUTIME, Clock.THREAD_CPUTIME):
        return process.cpu_ns()
    raise fault(errno.EINVAL, f"there is no clock {clock}")


def clock_res_get(process: Process, memory: Memory, clock: int, out: int) -> int:
    """Give the resolution of a clock."""
    clock_now(process, clock)
    memory.put_u64(out, RESOLUTION_NS)
    return 0


def clock_time_get(process: Process, memory: Memory, clock: int, precision: int, out: int) -> int:
    """Give the time."""
    memory.put_u64(out, clock_now(process, clock))
    return 0


def random_get(process: Process, memory: Memory, at: int, size: int) -> int | Awaitable[int]:
    """Give random bytes."""
    memory.view(at, size)
    if size > PIECE:
        return _random(process, memory, at, size)
    memory.write(at, process.randomness(size))
    return 0


async def _random(process: Process, memory: Memory, at: int, size: int) -> int:
    for done in range(0, size, PIECE):
        memory.write(at + done, process.randomness(min(PIECE, size - done)))
        await trio.lowlevel.checkpoint()
    return 0


async def sched_yield(process: Process, memory: Memory) -> int:
    """Let others go on."""
    await trio.lowlevel.checkpoint()
    return 0


def proc_exit(process: Process, memory: Memory, code: int) -> int:
    """End."""
    raise Exit(code)


def not_supported(process: Process, memory: Memory, *arguments: int) -> int:
    """Answer what has no meaning here: signals to oneself, and sockets."""
    return abi.Errno.NOTSUP


def sock(process: Process, memory: Memory, fd: int, *arguments: int) -> int:
    """Answer a call of a socket: no descriptor is one."""
    process.fds.get(fd)
    raise fault(errno.ENOTSOCK, f"descriptor {fd} is no socket: the network is at /cap")
