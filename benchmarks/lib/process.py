"""Run commands with a time-out, even where a hung mount makes a process unkillable."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class CommandFailed(Exception):
    """A command ended badly or not at all; `output` is what it had printed by then."""

    def __init__(self, sentence: str, output: str = "") -> None:
        super().__init__(sentence)
        self.output = output


def plain_environment(home: Path) -> dict[str, str]:
    """Return an environment in which no setting of the user changes what a tool does."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


def run(
    command: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    feed: Path | None = None,
    on_stuck: Callable[[], None] | None = None,
) -> str:
    """Run a command to its end, with a file as its input, and return its standard output.

    Output goes to files: a daemon that keeps a pipe open would hold a reader for ever.
    `on_stuck` is called after a time-out's SIGKILL, to free a process that waits in the kernel.
    Raises CommandFailed. An exception from outside (a signal) kills the command first.
    """
    with (
        open(feed or os.devnull, "rb") as source,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=source, stdout=out, stderr=err,
                env=None if env is None else dict(env), cwd=cwd, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise CommandFailed(f"{Path(command[0]).name}: {error.strerror}") from error
        try:
            code: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _kill(process, on_stuck)
            code = None
        except BaseException:
            _kill(process, on_stuck)
            raise
        output, errors = _text(out.fileno()), _text(err.fileno())
    if code is None:
        raise CommandFailed(f"no end within {timeout:.0f} s", output)
    if code != 0:
        raise CommandFailed(_reason(Path(command[0]).name, errors or output, code), output)
    return output


def _reason(name: str, said: str, code: int) -> str:
    lines = said.strip().splitlines()
    reason = lines[-1] if lines else f"exit status {code}"
    return f"{name}: {reason.removeprefix(f'{name}: ')}"


def _kill(process: subprocess.Popen[bytes], on_stuck: Callable[[], None] | None) -> None:
    """Kill the command's whole process group; a process that even then stays is left behind."""
    for _ in range(2):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        try:
            process.wait(3)
            return
        except subprocess.TimeoutExpired:
            if on_stuck is not None:
                on_stuck()


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode(errors="replace")
