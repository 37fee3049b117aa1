"""Door: the functions of `wasi_snapshot_preview1` as a guest imports them.

Each is a plain function of a process, its memory and the arguments; here its errors become numbers.
Nothing that a guest passes raises beyond this module but `Exit` and `OverLimit`, which end it.
"""

import errno
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from oanix.errors import fault
from oanix.scheduler.engine import Exit, Function, Guest, close_unawaited
from oanix.scheduler.wasi import abi, attributes, files, listing, names, polling, system
from oanix.scheduler.wasi.process import OverLimit, Process

Call = Callable[..., int | Awaitable[int]]

# name: arguments ("i" 32 bits, "I" 64 bits), the function, whether it may wait
_CALLS: Final[dict[str, tuple[str, Call, bool]]] = {
    "args_get": ("ii", system.args_get, False),
    "args_sizes_get": ("ii", system.args_sizes_get, False),
    "environ_get": ("ii", system.environ_get, False),
    "environ_sizes_get": ("ii", system.environ_sizes_get, False),
    "clock_res_get": ("ii", system.clock_res_get, False),
    "clock_time_get": ("iIi", system.clock_time_get, False),
    "fd_advise": ("iIIi", attributes.fd_advise, False),
    "fd_allocate": ("iII", attributes.fd_allocate, False),
    "fd_close": ("i", files.fd_close, False),
    "fd_datasync": ("i", files.fd_datasync, True),
    "fd_fdstat_get": ("ii", attributes.fd_fdstat_get, False),
    "fd_fdstat_set_flags": ("ii", attributes.fd_fdstat_set_flags, True),
    "fd_fdstat_set_rights": ("iII", attributes.fd_fdstat_set_rights, False),
    "fd_filestat_get": ("ii", attributes.fd_filestat_get, False),
    "fd_filestat_set_size": ("iI", attributes.fd_filestat_set_size, False),
    "fd_filestat_set_times": ("iIIi", attributes.fd_filestat_set_times, False),
    "fd_pread": ("iiiIi", files.fd_pread, True),
    "fd_prestat_get": ("ii", attributes.fd_prestat_get, False),
    "fd_prestat_dir_name": ("iii", attributes.fd_prestat_dir_name, False),
    "fd_pwrite": ("iiiIi", files.fd_pwrite, True),
    "fd_read": ("iiii", files.fd_read, True),
    "fd_readdir": ("iiiIi", listing.fd_readdir, True),
    "fd_renumber": ("ii", files.fd_renumber, False),
    "fd_seek": ("iIii", files.fd_seek, False),
    "fd_sync": ("i", files.fd_sync, True),
    "fd_tell": ("ii", files.fd_tell, False),
    "fd_write": ("iiii", files.fd_write, True),
    "path_create_directory": ("iii", names.path_create_directory, False),
    "path_filestat_get": ("iiiii", names.path_filestat_get, False),
    "path_filestat_set_times": ("iiiiIIi", names.path_filestat_set_times, False),
    "path_link": ("iiiiiii", names.path_link, False),
    "path_open": ("iiiiiIIii", names.path_open, True),
    "path_readlink": ("iiiiii", names.path_readlink, False),
    "path_remove_directory": ("iii", names.path_remove_directory, False),
    "path_rename": ("iiiiii", names.path_rename, False),
    "path_symlink": ("iiiii", names.path_symlink, False),
    "path_unlink_file": ("iii", names.path_unlink_file, False),
    "poll_oneoff": ("iiii", polling.poll_oneoff, True),
    "proc_raise": ("i", system.not_supported, False),
    "random_get": ("ii", system.random_get, True),
    "sched_yield": ("", system.sched_yield, True),
    "sock_accept": ("iii", system.sock, False),
    "sock_recv": ("iiiiii", system.sock, False),
    "sock_send": ("iiiii", system.sock, False),
    "sock_shutdown": ("ii", system.sock, False),
}


def functions() -> list[Function]:
    """Make what a guest imports; the state of each guest is its `Process`."""
    made = [
        Function(abi.MODULE, name, params, result=True, call=_answering(name, call), waits=waits)
        for name, (params, call, waits) in _CALLS.items()
    ]
    exits = Function(abi.MODULE, "proc_exit", "i", result=False, call=_exit, waits=False)
    return [*made, exits]


def _exit(guest: Guest, code: int) -> int:
    raise Exit(code)


class _Waited:
    """A call that waits; whoever does not wait for it closes it."""

    def __init__(
        self, process: Process, name: str, answer: Awaitable[int], arguments: tuple[int, ...]
    ) -> None:
        self._process, self._name = process, name
        self._answer, self._arguments = answer, arguments

    def __await__(self) -> Generator[Any, Any, int]:
        return self._wait().__await__()

    async def _wait(self) -> int:
        try:
            return await self._answer
        except (Exit, OverLimit):
            raise
        except Exception as error:
            return _failed(self._process, self._name, error, self._arguments)

    def close(self) -> None:
        """Let go of what nobody will wait for any more."""
        close_unawaited(self._answer)


def _answering(name: str, call: Call) -> Callable[..., int | Awaitable[int]]:
    def answered(guest: Guest, *arguments: int) -> int | Awaitable[int]:
        process: Process = guest.state
        try:
            answer = call(process, guest.memory, *arguments)
        except (Exit, OverLimit):
            raise
        except Exception as error:
            return _failed(process, name, error, arguments)
        if answer.__class__ is int or isinstance(answer, int):
            return answer
        return _Waited(process, name, answer, arguments)

    return answered


def _failed(process: Process, name: str, error: Exception, arguments: tuple[int, ...]) -> int:
    if isinstance(error, RecursionError | MemoryError):
        error = fault(errno.ENOMEM, "this is too much for one call")
    where = error.filename if isinstance(error, OSError) else None
    if not isinstance(where, str) and arguments and name.startswith("fd_"):
        try:
            where = process.fds.get(arguments[0]).channel.path
        except OSError:
            where = f"descriptor {arguments[0]}"
    return process.report(error, f"{name} {where}" if where else name)
