"""QuickJS: a reactor, which is begun by calls, and whose event loop is driven from here.

What `qjs` does after it has read a script, with the parts of its library (`quickjs-libc.c`): jobs
of promises, timers, handlers of files, and the end of a script whose promise is rejected unheard.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from oanix.scheduler.engine import Guest

TURN: Final = b"new Promise(done => os.setTimeout(done, 0))"
"""What is awaited in each turn: it looks for rejected promises, and calls timers that are due."""

EVERYTHING: Final = 7
"""Flags of js_os_poll_internal: timers, workers, signals."""

FOREVER: Final = 0xFFFF_FFFF
"""-1, as a number of 32 bits."""

NOTHING: Final = 4
"""JS_TAG_UNINITIALIZED, the upper half of a value: no exception is pending."""


async def start(guest: "Guest") -> int:
    """Run a script to its end, and to that of all that it waits for; it ends the guest itself."""
    await guest.call("_initialize")
    args: list[bytes] = guest.state.args
    failed = await guest.call("qjs_init_argv", len(args), await _array(guest, args))
    if not failed:
        context = await guest.call("qjs_get_context")
        failed = await _loop(guest, context)
    # It writes what its standard output still holds, and does not come back.
    await guest.call("exit", 1 if failed else 0)
    return 1


async def _array(guest: "Guest", texts: list[bytes]) -> int:
    pointers = [await _text(guest, text) for text in texts]
    at = await guest.call("malloc", 4 * len(pointers) + 4)
    for index, pointer in enumerate([*pointers, 0]):
        guest.memory.put_u32(at + 4 * index, pointer)
    return at


async def _text(guest: "Guest", text: bytes) -> int:
    at = await guest.call("malloc", len(text))
    guest.memory.write(at, text)
    return at


async def _loop(guest: "Guest", context: int) -> bool:
    """Go on until nothing is waited for; gives whether an exception ended it, which was told."""
    runtime = await guest.call("JS_GetRuntime", context)
    where = await guest.call("malloc", 4)
    turn, name = await _text(guest, TURN + b"\0"), await _text(guest, b"<turn>\0")
    while True:
        if await _jobs(guest, runtime, where):
            await guest.call("js_std_dump_error", context)
            return True
        waited = await guest.call("JS_Eval", context, turn, len(TURN), name, 0)
        await guest.call("js_std_await", context, waited)
        if await _jobs(guest, runtime, where):
            await guest.call("js_std_dump_error", context)
            return True
        # With no job left it may wait for the next timer; -1 is that there is none.
        if await guest.call("js_os_poll_internal", context, FOREVER, EVERYTHING):
            break
    thrown = await guest.call("JS_GetException", context)
    if thrown >> 32 == NOTHING:
        return False
    await guest.call("js_std_dump_error1", context, thrown)
    return True


async def _jobs(guest: "Guest", runtime: int, where: int) -> bool:
    """Do what promises have to do; gives whether that failed."""
    while (answer := await guest.call("JS_ExecutePendingJob", runtime, where)) == 1:
        pass
    return answer != 0
