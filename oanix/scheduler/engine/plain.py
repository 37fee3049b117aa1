"""Plain: guests by the public interface of wasmtime alone, a thread each.

For a version of wasmtime whose private names are not those that `bindings` knows. A call of the
host costs some hundred microseconds in place of one, and a guest stands still at its next call.
"""

import ctypes
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import trio
import wasmtime

from oanix.bell import Bell
from oanix.scheduler.engine.ending import Ended, GuestLimits, Used, refused_of, told_of
from oanix.scheduler.engine.engine import BadModule, Engine, Module, first_line
from oanix.scheduler.engine.functions import Exit, Function
from oanix.scheduler.engine.memory import Memory

LOOK_S: Final = 0.005
"""How often it is looked at how long a guest has computed."""

THREADS: Final = 1_000
MASKS: Final = {"i": 0xFFFFFFFF, "I": 0xFFFFFFFFFFFFFFFF}

T = TypeVar("T")


class Linker:
    """Functions of the host, for the modules of one engine."""

    def __init__(self, engine: Engine, functions: Sequence[Function]) -> None:
        self.engine = engine
        self.functions = functions
        self.threads = trio.CapacityLimiter(THREADS)
        self._known = {(one.module, one.name) for one in functions}

    def code_of(self, module: Module) -> bytes:
        """Give what was compiled: each guest has an engine of its own. Raises BadModule."""
        module.require(self._known)
        found: bytes | None = module.linked.get(self)
        if found is None:
            found = module.linked[self] = bytes(module.inner.serialize())
        return found


class Guest:
    """One instance. `state` is what its host keeps for it."""

    def __init__(self, linker: Linker, module: Module, state: Any, limits: GuestLimits) -> None:
        """Make it; nothing of it runs yet. Raises BadModule."""
        self.state = state
        self.process = os.getpid()
        self._linker = linker
        self._limits = limits
        self._exports = module.exports
        # The epoch is the engine's: one for each guest, so that it can be ended alone.
        self._engine = linker.engine.like()
        self._module = wasmtime.Module.deserialize(self._engine, linker.code_of(module))
        self._store = wasmtime.Store(self._engine)
        self._store.set_limits(
            memory_size=limits.memory, table_elements=limits.table, instances=1, tables=16,
            memories=1,
        )  # fmt: skip
        if linker.engine.fuel:
            self._store.set_fuel(limits.fuel if limits.fuel is not None else (1 << 64) - 1)
        self._inner = wasmtime.Linker(self._engine)
        for one in linker.functions:
            self._define(one)
        try:
            self._check_types()
        except wasmtime.WasmtimeError as error:
            raise BadModule(f"it cannot be linked: {first_line(error)}") from None
        self._instance: wasmtime.Instance | None = None
        self._found: wasmtime.Memory | None = None
        self.memory = Memory(self._fresh)
        self._size = 0
        self._fuel: int | None = None
        self._cpu_ns = 0
        self._clock: int | None = None
        self._clock_began = 0
        self._began: float | None = None
        self._failure: BaseException | None = None
        self._limit = ""
        self._running = self._over = False
        self._paused = False
        self._bell = Bell()

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; nothing of it runs any more."""
        self.memory.close()
        self._found = self._instance = None
        self._store.close()

    # Running -------------------------------------------------------------------------------------

    async def run(self, entry: "str | Callable[[Guest], Awaitable[int]]" = "_start") -> Ended:
        """Start it, and run it to its end; as `guest.Guest.run`."""
        self._began = trio.current_time()
        code: int | None = None
        trap = limit = backtrace = ""
        try:
            with trio.move_on_after(self._limits.wall) as scope:
                await self._threaded(self._instantiate)
                if callable(entry):
                    code = await entry(self)
                else:
                    await self.call(entry)
                    code = 0
            if scope.cancelled_caught:
                limit = "wall"
        except Exit as end:
            code = end.code
        except wasmtime.Trap as error:
            trap, limit, backtrace = told_of(error)
            if self._limit:
                trap, limit = "", self._limit
        except wasmtime.WasmtimeError as error:
            trap, limit = refused_of(error)
        return Ended(code=code, trap=trap, limit=limit, backtrace=backtrace, used=self.used)

    async def call(self, name: str, *numbers: int) -> int:
        """Call what it exports, within `run`; as `guest.Guest.call`."""
        params, results = self._exports.get(name) or ("?", "")
        if "?" in params + results or len(params) != len(numbers) or len(results) > 1:
            raise wasmtime.WasmtimeError(f"the module exports no function {name} of such arguments")
        signed = [_signed(letter, number) for letter, number in zip(params, numbers, strict=True)]

        def call() -> int:
            assert self._instance is not None
            function = self._instance.exports(self._store)[name]
            assert isinstance(function, wasmtime.Func)
            answer = function(self._store, *signed)
            return int(answer) & MASKS[results] if results else 0

        return await self._threaded(call)

    async def _threaded(self, call: Callable[[], T]) -> T:
        """Run something of it in a thread, and end that when this is cancelled."""
        ended: list[T] = []
        problems: list[wasmtime.WasmtimeError | wasmtime.Trap] = []

        def run() -> None:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            self._clock_began = time.clock_gettime_ns(self._clock) - self._cpu_ns
            self._store.set_epoch_deadline(1)
            try:
                # Whoever ends it says so before it moves the epoch.
                if not self._over:
                    ended.append(call())
            except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
                problems.append(error)
            finally:
                self._measure()
                self._clock = None

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            self._running = True
            await trio.to_thread.run_sync(run, limiter=self._linker.threads)
            self._running = False
            nursery.cancel_scope.cancel()
        # When it was cancelled, that is why it trapped.
        await trio.lowlevel.checkpoint_if_cancelled()
        failure, self._failure = self._failure, None
        for error in (failure, *problems):
            if error is not None:
                raise error
        return ended[0]

    async def _watch(self) -> None:
        try:
            while True:
                await trio.sleep(LOOK_S)
                self._measure()
                if self._cpu_ns > self._limits.cpu * 1e9:
                    self._limit = "cpu"
                    break
        finally:
            self._end()

    def _end(self) -> None:
        """Have its code trap at the next loop or function."""
        self._over = self._running
        self._engine.increment_epoch()

    def _measure(self) -> None:
        if self._clock is not None:
            self._cpu_ns = time.clock_gettime_ns(self._clock) - self._clock_began

    def _instantiate(self) -> None:
        self._instance = self._inner.instantiate(self._store, self._module)
        self._attach(self._instance.exports(self._store).get("memory"))

    # Calls of the host, which come from its thread ------------------------------------------------

    def _define(self, one: Function) -> None:
        types = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
        results = [wasmtime.ValType.i32()] if one.result else []
        kind = wasmtime.FuncType([types[letter]() for letter in one.params], results)
        masks = [MASKS[letter] for letter in one.params]

        def called(caller: wasmtime.Caller, *numbers: int) -> int | None:
            if self._found is None:
                self._attach(caller.get("memory"))
            arguments = [number & mask for number, mask in zip(numbers, masks, strict=True)]
            answer = 0
            # An exception that goes through wasmtime may end up in another thread's guest.
            try:
                answer = trio.from_thread.run(self._served, one, arguments)
            except BaseException as error:
                self._failure = error
                self._end()
            return _signed("i", answer) if one.result else None

        self._inner.define_func(one.module, one.name, kind, called, access_caller=True)

    async def _served(self, one: Function, arguments: list[int]) -> int:
        while self._paused:
            await self._bell.wait()
        answer = one.call(self, *arguments)
        return answer if isinstance(answer, int) else int(await answer)

    def pause(self, paused: bool) -> None:
        """Have it stand still at its next call of the host, or go on."""
        self._paused = paused
        self._bell.ring()

    # What it uses --------------------------------------------------------------------------------

    @property
    def cpu_ns(self) -> int:
        """The processor time that it has used, in nanoseconds."""
        return self._cpu_ns

    @property
    def used(self) -> Used:
        """What it has used so far; of its memory, what it had at its last call of the host."""
        began = self._began if self._began is not None else trio.current_time()
        idle = self._clock is None and self._instance is not None
        if idle and self._linker.engine.fuel and self._limits.fuel is not None:
            self._fuel = self._limits.fuel - self._store.get_fuel()
        if idle:
            self._size = self.memory.size
        return Used(
            wall=trio.current_time() - began, cpu=self._cpu_ns / 1e9, memory=self._size,
            fuel=self._fuel,
        )  # fmt: skip

    # Memory --------------------------------------------------------------------------------------

    def _attach(self, found: object) -> None:
        if isinstance(found, wasmtime.Memory):
            self._found = found

    def _fresh(self) -> memoryview:
        if self._found is None:
            return memoryview(b"")
        self._size = self._found.data_len(self._store)
        if not self._size:
            return memoryview(b"")
        address = ctypes.addressof(self._found.data_ptr(self._store).contents)
        return memoryview((ctypes.c_uint8 * self._size).from_address(address)).cast("B")

    def _check_types(self) -> None:
        self._inner.instantiate_pre(self._module)


def _signed(letter: str, number: int) -> int:
    wide = ctypes.c_int32 if letter == "i" else ctypes.c_int64
    return wide(number).value
