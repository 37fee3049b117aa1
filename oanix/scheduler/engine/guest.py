"""Guest: one instance of a module, from its start to its end."""

import ctypes
import os
import time
from ctypes import c_void_p
from typing import TYPE_CHECKING, Any

import trio
import wasmtime

from oanix.bell import Bell
from oanix.scheduler.engine import bindings
from oanix.scheduler.engine.ending import Ended, GuestLimits, Used, refused_of, told_of
from oanix.scheduler.engine.engine import TICK_S, Module
from oanix.scheduler.engine.functions import Exit, close_unawaited
from oanix.scheduler.engine.linking import Linker, put_result
from oanix.scheduler.engine.memory import Memory
from oanix.scheduler.engine.timing import Timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


WHOLE = 1 << 32
"""What a memory may have at most, with addresses of 32 bits."""


class _Limit(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Guest:
    """One instance. `state` is what its host keeps for it."""

    def __init__(self, linker: Linker, module: Module, state: Any, limits: GuestLimits) -> None:
        """Make it; nothing of it runs yet. Raises BadModule."""
        self.state = state
        self.process = os.getpid()
        """Where it runs."""
        self.failure: BaseException | None = None
        self.waiting: Awaitable[int] | None = None
        self.results = 0
        self.attached = False
        self.found: Callable[[int], None] = lambda address: None
        """Called with the address of its memory, as soon as that is known."""
        self._linker = linker
        self._engine = linker.engine
        self.limits = limits
        self._module = module
        self._instance = linker.instance_of(module)
        self._store = wasmtime.Store(self._engine.inner)
        self._store.set_limits(
            memory_size=WHOLE if self._engine.shares else limits.memory,
            table_elements=limits.table, instances=1, tables=16, memories=1,
        )  # fmt: skip
        if self._engine.fuel:
            self._store.set_fuel(limits.fuel if limits.fuel is not None else (1 << 64) - 1)
        self._context = bindings.context(self._store)
        self._raw = bindings.Instance()
        self._extern = bindings.Extern()
        self.memory = Memory(self._fresh)
        self._peak = 0
        self._cpu_ns = self._waited_ns = 0
        self._began: float | None = None
        self._paused = False
        self._bell = Bell()

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; nothing of it runs any more."""
        if self._context:
            close_unawaited(self.waiting)
            self._peak = self.memory.size
            self.memory.close()
            self._context = 0
            self._store.close()

    # Running -------------------------------------------------------------------------------------

    async def run(self, entry: "str | Callable[[Guest], Awaitable[int]]" = "_start") -> Ended:
        """Start it, and run it to its end.

        entry: the function that it exports for that, or one of the host that calls what it exports
        and gives the code. What a function raises is raised here, but for `Exit`. Cancelled, it
        ends within a tick.
        """
        self._began = trio.current_time()
        code: int | None = None
        trap = limit = backtrace = ""
        try:
            with trio.move_on_after(self.limits.wall) as scope, self._engine.ticking():
                await self._instantiate()
                if callable(entry):
                    code = await entry(self)
                else:
                    await self.call(entry)
                    code = 0
            if scope.cancelled_caught:
                limit = "wall"
        except Exit as end:
            code = end.code
        except _Limit as over:
            limit = over.name
        except wasmtime.Trap as error:
            trap, limit, backtrace = told_of(error)
        except wasmtime.WasmtimeError as error:
            trap, limit = refused_of(error)
        return Ended(code=code, trap=trap, limit=limit, backtrace=backtrace, used=self.used)

    @property
    def used(self) -> Used:
        """What it has used so far."""
        began = self._began if self._began is not None else trio.current_time()
        fuel = None
        if self._context and self._engine.fuel and self.limits.fuel is not None:
            fuel = self.limits.fuel - self._store.get_fuel()
        return Used(
            wall=trio.current_time() - began,
            cpu=self._cpu_ns / 1e9,
            memory=self.memory.size if self._context and self.attached else self._peak,
            fuel=fuel,
        )

    @property
    def cpu_ns(self) -> int:
        """The processor time that it has used, in nanoseconds, up to when it last went on."""
        return self._cpu_ns

    def pause(self, paused: bool) -> None:
        """Have it stand still, or go on."""
        self._paused = paused
        self._bell.ring()

    async def _instantiate(self) -> None:
        trap, error = c_void_p(), c_void_p()
        future = bindings.instantiate_async(
            bindings.pointer(self._instance), self._context, ctypes.addressof(self._raw),
            ctypes.addressof(trap), ctypes.addressof(error),
        )  # fmt: skip
        self._began_running()
        await self._drive(future, trap, error)
        if not self.attached:
            found = bindings.export_get(
                self._context, ctypes.addressof(self._raw), b"memory", 6,
                ctypes.addressof(self._extern),
            )  # fmt: skip
            self._attach(bool(found))

    def _began_running(self) -> None:
        bindings.set_epoch_deadline(self._context, 1)
        bindings.yield_at_epoch(self._context, 1)

    async def call(self, name: str, *numbers: int) -> int:
        """Call what it exports, within `run`; a number is one of 32 bits or 64, as that takes it.

        Gives its answer, 0 for none. What ends the guest is raised, and told by `run`.
        """
        function = bindings.Extern()
        raw = name.encode()
        found = bindings.export_get(
            self._context, ctypes.addressof(self._raw), raw, len(raw), ctypes.addressof(function)
        )
        params, results = self._module.exports.get(name) or ("?", "")
        if not found or "?" in params + results or len(params) != len(numbers) or len(results) > 1:
            raise wasmtime.WasmtimeError(f"the module exports no function {name} of such arguments")
        given = (bindings.Value * max(len(numbers), 1))()
        for value, letter, number in zip(given, params, numbers, strict=False):
            bindings.put_value(value, letter, number)
        answer = bindings.Value()
        trap, error = c_void_p(), c_void_p()
        future = bindings.call_async(
            self._context, ctypes.addressof(function.of.func), ctypes.addressof(given),
            len(numbers), ctypes.addressof(answer), len(results), ctypes.addressof(trap),
            ctypes.addressof(error),
        )  # fmt: skip
        await self._drive(future, trap, error)
        return bindings.value_of(answer, results) if results else 0

    async def _drive(self, future: int, trap: c_void_p, error: c_void_p) -> None:
        engine, most = self._engine, self.limits.cpu * 1e9
        try:
            while True:
                while self._paused:
                    await self._bell.wait()
                engine.current, engine.until = self, time.perf_counter() + TICK_S
                began = time.thread_time_ns()
                done = bindings.future_poll(future)
                self._cpu_ns += time.thread_time_ns() - began - self._waited_ns
                self._waited_ns = 0
                engine.current = None
                if done:
                    break
                if self._cpu_ns > most:
                    raise _Limit("cpu")
                waiting = self.waiting
                if waiting is None:
                    await trio.lowlevel.checkpoint()
                else:
                    answer = await Timed(waiting, self._spend)
                    self.waiting = None
                    put_result(self.results, answer)
        finally:
            engine.current = None
            bindings.future_delete(future)
            failure, self.failure = self.failure, None
            problem = _taken(trap, error)
        if failure is not None:
            raise failure
        if problem is not None:
            raise problem

    def waited(self, ns: int) -> None:
        """Do not count what its host spent on waiting for an answer, within a call."""
        self._waited_ns += ns

    def _spend(self, ns: int) -> None:
        self._cpu_ns += ns
        if self._cpu_ns > self.limits.cpu * 1e9:
            raise _Limit("cpu")

    # Memory --------------------------------------------------------------------------------------

    def attach(self, caller: int) -> None:
        """Find the memory while the instance is still being made: its start function runs."""
        found = bindings.caller_export_get(caller, b"memory", 6, ctypes.addressof(self._extern))
        self._attach(bool(found))

    def _attach(self, found: bool) -> None:
        self.attached = found and self._extern.kind == bindings.MEMORY
        if self.attached:
            where = ctypes.addressof(self._extern.of.memory)
            self.found(bindings.memory_data(self._context, where))

    def _fresh(self) -> memoryview:
        if not (self._context and self.attached):
            return memoryview(b"")
        where = ctypes.addressof(self._extern.of.memory)
        size = bindings.memory_data_size(self._context, where)
        if not size:
            return memoryview(b"")
        return bindings.view_of(bindings.memory_data(self._context, where), size)


def _taken(trap: c_void_p, error: c_void_p) -> wasmtime.Trap | wasmtime.WasmtimeError | None:
    # Both are taken over, so that they are freed.
    problem: wasmtime.Trap | wasmtime.WasmtimeError | None = None
    if trap.value:
        problem = bindings.trap_of(trap.value)
    if error.value:
        problem = bindings.error_of(error.value)
    return problem
