"""Engine: compiles modules, keeps what it compiled, and links them with functions of the host."""

import errno
import hashlib
import logging
import math
import os
import stat as modes
import threading
import weakref
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio
import wasmtime
from attrs import field, frozen

from oanix.errors import fault

if TYPE_CHECKING:
    from oanix.scheduler.engine.guest import Guest
    from oanix.scheduler.engine.shared import SharedMemories

log = logging.getLogger(__name__)

VERSION: Final = version("wasmtime")

MODULE_MAX: Final = 128 << 20
"""Bytes of a module."""

FUNCTIONS_MAX: Final = 100_000
"""Functions of a module: a million of them take a minute to compile, and 5 GB."""

SECTIONS_MAX: Final = 10_000
FUNCTION_SECTION: Final = 3

STACK_BYTES: Final = 512 << 10
TICK_S: Final = 0.005
"""How long a guest may run before others have their turn."""

QUICK: Final = 16_384
"""A module with fewer bytes is compiled at once, a larger one in a thread."""

HEADER: Final = b"\0asm\x01\0\0\0"
COMPONENT: Final = b"\0asm\x0d\0\x01\0"


class BadModule(OSError):
    """What cannot be run: ENOEXEC, and a sentence that says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.ENOEXEC, sentence)


@frozen(eq=False)
class Module:
    """A compiled module. imports: pairs of a module's name and a function's.

    exports: what it exports; of functions, the letters of their arguments and of their results, `i`
    for 32 bits, `I` for 64, `?` for what no host here hands over; of anything else, None.
    """

    inner: wasmtime.Module
    digest: str
    imports: tuple[tuple[str, str], ...]
    exports: Mapping[str, tuple[str, str] | None]
    linked: dict[object, Any] = field(factory=dict)
    """What linkers keep of it."""

    def require(self, known: Set[tuple[str, str]]) -> None:
        """Refuse a module that imports what there is not. Raises BadModule."""
        unknown = [f"{place}.{name}" for place, name in self.imports if (place, name) not in known]
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise BadModule(f"it imports what there is not: {', '.join(unknown[:5])}{more}")


class Engine:
    """Compiles and runs modules.

    fuel: whether what they do is counted; that costs a tenth. memories: where guests have their
    memory when another process is to see it.
    """

    def __init__(self, *, fuel: bool = False, memories: "SharedMemories | None" = None) -> None:
        self.fuel = fuel
        self._memories = memories
        self.shares = memories is not None
        """Whether memories are made, and bounded, elsewhere."""
        self.inner = self.like()
        self.current: Guest | None = None
        """The guest that runs now: whose functions are called."""
        self.until = math.inf
        """By when it gives way, a time of `time.perf_counter`."""
        self.abandoned = False
        """Whether a thread compiles, or did, what nobody waits for any more."""
        self._shared = memories is not None
        self._compiling = trio.CapacityLimiter(1)
        self._ticker = _Ticker(self.inner)
        weakref.finalize(self, self._ticker.stop)

    def like(self) -> wasmtime.Engine:
        """Make an engine that runs what this one has compiled."""
        config = wasmtime.Config()
        config.epoch_interruption = True
        config.wasm_exceptions = True
        config.consume_fuel = self.fuel
        config.max_wasm_stack = STACK_BYTES
        if self._memories is not None:
            self._memories.install(config)
        return wasmtime.Engine(config)

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Interrupt guests now and then for as long as the block."""
        self._ticker.begin()
        try:
            yield
        finally:
            self._ticker.end()

    def interrupt(self) -> None:
        """Have the guest that runs now give way at its next loop or function.

        A guest in a loop of calls leaves the thread that moves the epoch no turn, as each call
        takes the interpreter's lock back at once; so its calls see to that themselves.
        """
        self.until = math.inf
        self.inner.increment_epoch()

    # Compiling -----------------------------------------------------------------------------------

    async def load(self, wasm: bytes, folder: Path | None = None) -> Module:
        """Compile a module, or take what an earlier run has compiled.

        folder: where that is kept; it is ours alone, as what lies in it is run as it is. Raises
        BadModule, and OSError EPERM for a folder that others can write to.
        """
        if folder is None:
            return await self.compile(wasm)
        digest = hashlib.sha256(wasm).hexdigest()
        found = self.kept(digest, folder)
        if found is not None:
            return found
        module = await self.compile(wasm)
        path = folder / kept_name(digest, fuel=self.fuel, shared=self._shared)
        try:
            await trio.to_thread.run_sync(_keep, path, bytes(module.inner.serialize()))
        except OSError as error:
            log.warning("%s: what was compiled is not kept: %s", path, error.strerror)
        return module

    def kept(self, digest: str, folder: Path) -> Module | None:
        """Take what an earlier run has compiled of these bytes. Raises OSError EPERM as `load`."""
        name = kept_name(digest, fuel=self.fuel, shared=self._shared)
        return self._kept(_own(folder) / name, digest)

    def _kept(self, path: Path, digest: str) -> Module | None:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        if not modes.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o22:
            log.warning("%s: is not only ours, and not used", path)
            return None
        try:
            return _described(wasmtime.Module.deserialize_file(self.inner, str(path)), digest)
        except wasmtime.WasmtimeError as error:
            log.warning("%s: cannot be used and is made anew: %s", path, str(error)[:200])
            return None

    async def compile(self, wasm: bytes) -> Module:
        """Compile a module. Raises BadModule."""
        _check(wasm)
        if len(wasm) <= QUICK:
            return self._compiled(wasm)
        # A large module takes seconds: whoever is cancelled meanwhile does not wait for that.
        try:
            return await trio.to_thread.run_sync(
                self._compiled, wasm, limiter=self._compiling, abandon_on_cancel=True
            )
        except trio.Cancelled:
            self.abandoned = True
            raise

    def _compiled(self, wasm: bytes) -> Module:
        try:
            inner = wasmtime.Module(self.inner, wasm)
        except wasmtime.WasmtimeError as error:
            raise BadModule(f"this module is not valid: {first_line(error)}") from None
        return _described(inner, hashlib.sha256(wasm).hexdigest())


def kept_name(digest: str, *, fuel: bool, shared: bool) -> str:
    """Name the file in which what was compiled for an engine is kept."""
    settings = f"{VERSION} fuel={fuel} stack={STACK_BYTES} shared={shared}"
    return f"{digest}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"


def _check(wasm: bytes) -> None:
    if len(wasm) > MODULE_MAX:
        raise BadModule(f"a module has at most {MODULE_MAX} bytes")
    if wasm.startswith(HEADER):
        if _functions(wasm) > FUNCTIONS_MAX:
            raise BadModule(f"a module has at most {FUNCTIONS_MAX} functions")
        return
    if not wasm:
        raise BadModule("this is an empty file, and no module")
    if wasm.startswith(COMPONENT):
        raise BadModule("this is a component; build a core module (wasm32-wasi, wasip1) instead")
    if wasm.lstrip().startswith(b"(module"):
        raise BadModule("this is the text of a module; translate it with wat2wasm first")
    raise BadModule(
        "this is no WebAssembly module: it does not begin with \\0asm and version 1; a script says "
        "by its suffix or a #! line what runs it"
    )


def _functions(wasm: bytes) -> int:
    """Count the functions that a module declares; what is malformed is left to the compiler.

    Raises BadModule for what would take long to count.
    """
    at, found, sections = len(HEADER), 0, 0
    while at < len(wasm):
        sections += 1
        if sections > SECTIONS_MAX:
            raise BadModule(f"a module has at most {SECTIONS_MAX} sections")
        section, (size, start) = wasm[at], _leb(wasm, at + 1)
        if section == FUNCTION_SECTION:
            found += _leb(wasm, start)[0]
        at = start + size
    return found


def _leb(wasm: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned number of up to five bytes (LEB128); gives it and where it ends."""
    value = 0
    for index, byte in enumerate(wasm[at : at + 5]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, at + index + 1
    return 0, len(wasm)


def _described(inner: wasmtime.Module, digest: str) -> Module:
    imports = tuple((one.module, one.name or "") for one in inner.imports)
    exports = {one.name: _signature(one.type) for one in inner.exports}
    return Module(inner, digest, imports, exports)


def _signature(kind: object) -> tuple[str, str] | None:
    if not isinstance(kind, wasmtime.FuncType):
        return None
    letters = {str(wasmtime.ValType.i32()): "i", str(wasmtime.ValType.i64()): "I"}
    params, results = (
        "".join(letters.get(str(one), "?") for one in types)
        for types in (kind.params, kind.results)
    )
    return params, results


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join(lines)[:300]


def _own(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.lstat(folder)
    if not modes.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise fault(
            errno.EPERM, "compiled modules are run as they are: keep them in a folder of mode 0700",
            str(folder),
        )  # fmt: skip
    return folder


def _keep(path: Path, data: bytes) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


class _Ticker:
    """Moves the epoch on while guests run."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._running = 0
        self._wanted = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        self._running += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._tick, name="epochs", daemon=True)
            self._thread.start()
        self._wanted.set()

    def end(self) -> None:
        self._running -= 1
        if not self._running:
            self._wanted.clear()

    def stop(self) -> None:
        """End its thread."""
        self._stopped = True
        self._wanted.set()

    def _tick(self) -> None:
        pause = threading.Event()
        while True:
            self._wanted.wait()
            if self._stopped:
                return
            self._engine.increment_epoch()
            pause.wait(TICK_S)
