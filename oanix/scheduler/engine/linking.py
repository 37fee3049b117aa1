"""Linking: modules with functions of the host, called without a detour (see `bindings`)."""

import ctypes
from collections.abc import Sequence
from struct import Struct
from time import perf_counter
from typing import Any, Final

import wasmtime

from oanix.scheduler.engine import bindings
from oanix.scheduler.engine.engine import BadModule, Engine, Module, first_line
from oanix.scheduler.engine.functions import Function

_RAW: Final = {"i": "I12x", "I": "Q8x"}
_TYPED: Final = {"i": "8xI20x", "I": "8xQ16x"}
_ANSWER: Final = Struct("<I12x")
_FAILED: Final = b"the host ends it"


class Linker:
    """Functions of the host, for the modules of one engine."""

    def __init__(self, engine: Engine, functions: Sequence[Function]) -> None:
        """Bind them. Each guest is found by what its engine runs at the moment."""
        self.engine = engine
        self._inner = wasmtime.Linker(engine.inner)
        self._known = {(one.module, one.name) for one in functions}
        self._continue = bindings.CONTINUE(self._done)
        self._callbacks: list[Any] = [self._continue]
        for one in functions:
            self._define(one)

    def _define(self, one: Function) -> None:
        types = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
        # A type belongs to the first engine that it is used with.
        results = [wasmtime.ValType.i32()] if one.result else []
        kind = wasmtime.FuncType([types[letter]() for letter in one.params], results)
        callback = self._waiting(one) if one.waits else self._plain(one)
        define = bindings.linker_define_async if one.waits else bindings.linker_define_unchecked
        module, name = one.module.encode(), one.name.encode()
        failed = define(
            bindings.pointer(self._inner), module, len(module), name, len(name),
            bindings.pointer(kind), callback, None, None,
        )  # fmt: skip
        if failed:
            raise ValueError(str(bindings.error_of(failed)))
        self._callbacks += [callback, kind]

    def instance_of(self, module: Module) -> wasmtime.InstancePre:
        """Link a module, once. Raises BadModule for imports that there are not."""
        found: wasmtime.InstancePre | None = module.linked.get(self)
        if found is not None:
            return found
        module.require(self._known)
        try:
            found = self._inner.instantiate_pre(module.inner)
        except wasmtime.WasmtimeError as error:
            raise BadModule(f"it cannot be linked: {first_line(error)}") from None
        module.linked[self] = found
        return found

    # Callbacks: nothing may be raised out of them ------------------------------------------------

    def _plain(self, one: Function) -> Any:
        engine, call, answers = self.engine, one.call, one.result
        unpack = Struct("<" + "".join(_RAW[letter] for letter in one.params)).unpack_from
        size = max(16 * len(one.params), 16)
        array = ctypes.c_char * size

        def callback(env: int, caller: int, values: int, count: int) -> int:
            guest = engine.current
            assert guest is not None
            try:
                if not guest.attached:
                    guest.attach(caller)
                room = array.from_address(values)
                answer = call(guest, *unpack(room))
                if perf_counter() > engine.until:
                    engine.interrupt()
                if answers:
                    _ANSWER.pack_into(room, 0, answer)
            except BaseException as error:
                guest.failure = error
                return int(bindings.trap_new(_FAILED, len(_FAILED)))
            return 0

        return bindings.UNCHECKED(callback)

    def _waiting(self, one: Function) -> Any:
        engine, call = self.engine, one.call
        unpack = Struct("<" + "".join(_TYPED[letter] for letter in one.params)).unpack_from
        array = ctypes.c_char * max(32 * len(one.params), 32)
        words = ctypes.c_void_p * 3
        address = ctypes.cast(self._continue, ctypes.c_void_p).value

        def callback(
            env: int, caller: int, values: int, count: int, results: int, most: int, trap: int,
            then: int,
        ) -> None:  # fmt: skip
            guest = engine.current
            assert guest is not None
            try:
                if not guest.attached:
                    guest.attach(caller)
                room = array.from_address(values) if values else b"\0" * 32
                answer = call(guest, *unpack(room))
                if perf_counter() > engine.until:
                    engine.interrupt()
                if answer.__class__ is int or isinstance(answer, int):
                    put_result(results, answer)
                else:
                    guest.waiting, guest.results = answer, results
            except BaseException as error:
                guest.failure = error
                made = bindings.trap_new(_FAILED, len(_FAILED))
                ctypes.c_void_p.from_address(trap).value = made
            continuation = words.from_address(then)
            continuation[0], continuation[1], continuation[2] = address, None, None

        return bindings.ASYNC(callback)

    def _done(self, env: int) -> bool:
        guest = self.engine.current
        return guest is None or guest.waiting is None


def put_result(results: int, answer: int) -> None:
    """Write the answer of a function where its caller looks for it."""
    room = (ctypes.c_char * 32).from_address(results)
    _RESULT.pack_into(room, 0, 0, answer)


_RESULT: Final = Struct("<B7xI20x")
