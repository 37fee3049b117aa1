"""Bindings: wasmtime's C interface as far as its Python interface does not offer it.

The one module that uses private names of the package: its library, and the pointers of its objects.
They are checked when it is loaded, and hold for the versions that setup.cfg allows. What the C
interface demands, and does not check, is kept here and in `guest`:

- a type is freed after the call that it is handed to, and used with one engine;
- a callback lives as long as what it was given to, and never raises;
- a view of a memory is dropped before its store is;
- a future is deleted once, and not while it is polled.
"""

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_bool, c_char_p, c_size_t, c_uint8, c_uint64, c_void_p
from importlib.metadata import version
from typing import Any, Final

import wasmtime
from wasmtime import _bindings, _ffi

SUPPORTED: Final = "50."
"""Versions whose interface this is written for; a test says when it has to be looked at again."""

VERSION: Final = version("wasmtime")

if not VERSION.startswith(SUPPORTED):
    raise ImportError(f"this needs wasmtime {SUPPORTED}x; install what setup.cfg asks for")

UNCHECKED: Final = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_size_t)
"""env, caller, values (16 bytes each, arguments and then results in place), how many: a trap."""

ASYNC: Final = CFUNCTYPE(
    None, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p
)
"""env, caller, arguments, how many, results (32 bytes each), how many, trap, continuation."""

CONTINUE: Final = CFUNCTYPE(c_bool, c_void_p)
"""env: whether the results are there."""


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    known = getattr(_bindings, f"_{name}", None)
    if known is None or len(known.argtypes) != len(arguments):
        raise ImportError(f"wasmtime has no {name} with {len(arguments)} arguments")
    return CFUNCTYPE(result, *arguments)((name, _ffi.dll))


P = c_void_p
linker_define_unchecked = _function(
    "wasmtime_linker_define_func_unchecked", P, P, P, c_size_t, P, c_size_t, P, UNCHECKED, P, P
)
linker_define_async = _function(
    "wasmtime_linker_define_async_func", P, P, P, c_size_t, P, c_size_t, P, ASYNC, P, P
)
instantiate_async = _function("wasmtime_instance_pre_instantiate_async", P, P, P, P, P, P)
call_async = _function(
    "wasmtime_func_call_async", P, P, P, P, c_size_t, P, c_size_t, P, P
)  # fmt: skip
future_poll = _function("wasmtime_call_future_poll", c_bool, P)
future_delete = _function("wasmtime_call_future_delete", None, P)
set_epoch_deadline = _function("wasmtime_context_set_epoch_deadline", None, P, c_uint64)
# The package says that this one answers a pointer; it answers nothing.
yield_at_epoch = _function(
    "wasmtime_context_epoch_deadline_async_yield_and_update", None, P, c_uint64
)
export_get = _function("wasmtime_instance_export_get", c_bool, P, P, P, c_size_t, P)
caller_export_get = _function("wasmtime_caller_export_get", c_bool, P, P, c_size_t, P)
caller_context = _function("wasmtime_caller_context", P, P)
memory_data = _function("wasmtime_memory_data", P, P, P)
memory_data_size = _function("wasmtime_memory_data_size", c_size_t, P, P)
trap_new = _function("wasmtime_trap_new", P, c_char_p, c_size_t)
get_fuel = _function("wasmtime_context_get_fuel", P, P, P)
error_new = _function("wasmtime_error_new", P, c_char_p)
use_memory_creator = _function("wasmtime_config_host_memory_creator_set", None, P, P)
use_copied_images = _function("wasmtime_config_memory_init_cow_set", None, P, c_bool)

Extern: Final[Any] = _bindings.wasmtime_extern_t
Instance: Final[Any] = _bindings.wasmtime_instance_t
Value: Final[Any] = _bindings.wasmtime_val_t
MemoryCreator: Final[Any] = _bindings.wasmtime_memory_creator
LinearMemory: Final[Any] = _bindings.wasmtime_linear_memory
NEW_MEMORY: Final[Any] = _bindings.wasmtime_new_memory_callback_t
GET_MEMORY: Final[Any] = _bindings.wasmtime_memory_get_callback_t
GROW_MEMORY: Final[Any] = _bindings.wasmtime_memory_grow_callback_t
FINALIZER: Final = CFUNCTYPE(None, c_void_p)
FUNCTION: Final[int] = int(_ffi.WASMTIME_EXTERN_FUNC.value)
MEMORY: Final[int] = int(_ffi.WASMTIME_EXTERN_MEMORY.value)

_SIZES = ctypes.sizeof(Value), Value.of.offset, ctypes.sizeof(_bindings.wasmtime_val_raw_t)
if _SIZES != (32, 8, 16):
    raise ImportError("the values of wasmtime have another size than they had")


def pointer(managed: Any) -> int:
    """Give the address of what an object of the package stands for."""
    return ctypes.cast(managed.ptr(), c_void_p).value or 0


def context(store: wasmtime.Store) -> int:
    """Give the address of the context of a store."""
    return ctypes.cast(store._context(), c_void_p).value or 0


def trap_of(address: int) -> wasmtime.Trap:
    """Take over a trap."""
    return wasmtime.Trap._from_ptr(ctypes.cast(address, ctypes.POINTER(_ffi.wasm_trap_t)))


def error_of(address: int) -> wasmtime.WasmtimeError:
    """Take over an error."""
    return wasmtime.WasmtimeError._from_ptr(
        ctypes.cast(address, ctypes.POINTER(_ffi.wasmtime_error_t))
    )


def put_value(value: Any, letter: str, number: int) -> None:
    """Write an argument: `i` of 32 bits, `I` of 64."""
    if letter == "i":
        value.kind, value.of.i32 = 0, ctypes.c_int32(number).value
    else:
        value.kind, value.of.i64 = 1, ctypes.c_int64(number).value


def value_of(value: Any, letter: str) -> int:
    """Read a result, unsigned."""
    if letter == "i":
        return int(value.of.i32) & 0xFFFFFFFF
    return int(value.of.i64) & 0xFFFFFFFFFFFFFFFF


def view_of(address: int, size: int) -> memoryview:
    """Make a view of memory; whoever has it drops it in time."""
    return memoryview((c_uint8 * size).from_address(address)).cast("B")
