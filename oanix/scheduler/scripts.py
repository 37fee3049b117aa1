"""Scripts: jobs that are no modules, and the interpreters that run them, ready to be loaded."""

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from oanix import path as paths
from oanix.errors import fault
from oanix.scheduler.engine import Engine, Function, SharedMemories
from oanix.scheduler.engine.engine import kept_name
from oanix.scheduler.interpreters import Interpreter, Start, chosen, start_of
from oanix.scheduler.interpreters.imports import interpreter_functions
from oanix.scheduler.modules import Stored
from oanix.scheduler.wasi import functions


def imports() -> list[Function]:
    """Make what modules and interpreters import."""
    return [*functions(), *interpreter_functions()]


SCRIPT_MAX: Final = 16 << 20
"""Bytes of a script."""

FOLDER: Final = "/task/program"
"""Where a guest finds its script, whatever else it sees."""


@frozen(kw_only=True)
class Script:
    """A script, and what runs it."""

    interpreter: Interpreter
    name: str
    content: bytes

    def argv(self, args: Sequence[str], at: str = "") -> list[str]:
        """Give all arguments that its interpreter takes. at: where its guest finds it, if not in
        its folder: there it has what lies beside it.
        """
        return self.interpreter.argv(at or f"{FOLDER}/{self.name}", args)

    @property
    def start(self) -> str | Start:
        """Say how its interpreter is started, as `Guest.run` takes it."""
        return start_of(self.interpreter.entry)


def make_script(content: bytes, file: str, said: str = "") -> Script | None:
    """Give what a file is, when that is a script; None for a module.

    file: how it is called; said: the name of an interpreter, which goes before what the file says.
    Raises OSError EINVAL, ENOEXEC, EFBIG.
    """
    found = chosen(content, file, said)
    if found is None:
        return None
    if len(content) > SCRIPT_MAX:
        raise fault(errno.EFBIG, f"a script has at most {SCRIPT_MAX} bytes")
    try:
        paths.check_name(file)
    except OSError:
        file = f"main{found.suffixes[0]}"
    return Script(interpreter=found, name=file, content=content)


async def script_of(kept: Stored, file: str, said: str = "") -> Script | None:
    """Give what was kept, as `make_script` does."""

    def read() -> bytes:
        with open(kept.path, "rb") as stored:
            return stored.read(SCRIPT_MAX + 1)

    content = await trio.to_thread.run_sync(read)
    script = make_script(content, file, said)
    if script is not None and hashlib.sha256(content).hexdigest() != kept.digest:
        raise fault(errno.EIO, f"what is kept as sha256:{kept.digest[:12]}… is something else")
    return script


class Interpreters:
    """The interpreters of a user, compiled in the folder for what can be made anew.

    They are compiled here and not by workers, whose native code only workers may run: so workers
    read what all of a user's servers share, and write none of it.
    """

    def __init__(self, folder: Path) -> None:
        """Make it; the folder is made when something is kept."""
        self.compiled = folder / "compiled"
        self._engines: dict[tuple[bool, bool], Engine] = {}
        self._ready: set[str] = set()
        self._making = trio.Lock()

    async def ready(
        self, wanted: Interpreter, *, fuel: bool, shared: bool,
        compiles: Callable[[], None] = lambda: None,
    ) -> Stored:  # fmt: skip
        """Have an interpreter compiled for engines of this kind, and say where.

        compiles: called before that is done, which takes seconds. Who is cancelled meanwhile waits
        no longer. Raises OSError ENOEXEC where it is not there, or another than the known one; as
        the folder does when nothing can be kept in it.
        """
        digest = wanted.made or wanted.digest
        name = kept_name(digest, fuel=fuel, shared=shared)
        path = self.compiled / name
        if name not in self._ready or not path.exists():
            if not path.exists():
                compiles()
            # Whoever waits for the same one finds it made.
            async with self._making:
                await self._make(wanted, digest, path, self._engine(fuel, shared))
            self._ready.add(name)
        return Stored(digest, path, path.stat().st_size, self.compiled)

    def _engine(self, fuel: bool, shared: bool) -> Engine:
        if (fuel, shared) not in self._engines:
            memories = SharedMemories(lambda memory: None, lambda: 0) if shared else None
            self._engines[fuel, shared] = Engine(fuel=fuel, memories=memories)
        return self._engines[fuel, shared]

    async def _make(self, wanted: Interpreter, digest: str, path: Path, engine: Engine) -> None:
        try:
            if engine.kept(digest, self.compiled) is not None:
                return
            wasm = await trio.to_thread.run_sync(wanted.wasm, abandon_on_cancel=True)
            await engine.load(wasm, self.compiled)
            os.stat(path)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                raise
            raise fault(
                error.errno or errno.EIO, f"what runs scripts cannot be kept ({error.strerror}); "
                "set OANIX_CACHE to a folder of your own", str(self.compiled),
            ) from None  # fmt: skip
