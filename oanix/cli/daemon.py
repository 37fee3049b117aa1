"""Daemon: a server in the background, and how its first words reach who started it."""

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import quote

from attrs import define

from oanix.cli.failures import Failed, tell
from oanix.cli.output import complain
from oanix.env.state import make_state

LOG_MAX = 2**20
"""A log that is longer is set aside at the next start, in place of the one before."""

NAME_MAX = 200


def log_file(state: str, mountpoint: str) -> str:
    """Name the log of the server of a mount point, and make its folder."""
    make_state(state)
    folder = os.path.join(state, "log")
    os.makedirs(folder, 0o700, exist_ok=True)
    return os.path.join(folder, quote(os.fsencode(mountpoint), safe="")[-NAME_MAX:] + ".log")


def in_background(serve: Callable[[Callable[[], None]], None], log: str) -> int:
    """Run a server in a process of its own, and give its pid when it says that it is ready.

    `serve` is called there with what it calls when it is ready. When it ends before that, its error
    is shown here: Failed is raised with its exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _Child(writing).run(serve, log)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    told = json.loads(said) if said else None
    if told is None:
        _, status = os.waitpid(pid, 0)
        complain(f"oanix: the server ended before it was ready ({_how(status)})")
        complain(f"  its log may say why: {log}")
        raise Failed(os.EX_SOFTWARE)
    for line in told["lines"]:
        complain(line)
    if not told["ready"]:
        os.waitpid(pid, 0)
        raise Failed(told["code"])
    return pid


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@define
class _Child:
    """The process in the background."""

    pipe: int

    def run(self, serve: Callable[[Callable[[], None]], None], log: str) -> NoReturn:
        code = os.EX_SOFTWARE
        try:
            os.setsid()
            _detach(log)
            serve(self.ready)
            code = 0
        except BaseException as error:
            lines, code = tell(error)
            logging.getLogger(__name__).error("ended: %s", "; ".join(lines), exc_info=error)
            self.say(ready=False, lines=lines, code=code)
        finally:
            # Not sys.exit: what the parent has on its stack is not this process's to unwind.
            logging.shutdown()
            os._exit(code)

    def ready(self) -> None:
        self.say(ready=True, lines=[], code=0)

    def say(self, *, ready: bool, lines: list[str], code: int) -> None:
        """Tell the parent, once."""
        if self.pipe < 0:
            return
        os.write(self.pipe, json.dumps({"ready": ready, "lines": lines, "code": code}).encode())
        os.close(self.pipe)
        self.pipe = -1


def _detach(log: str) -> None:
    if os.path.exists(log) and os.path.getsize(log) > LOG_MAX:
        os.replace(log, f"{log}.1")
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(nothing)
    os.close(written)
    os.chdir("/")
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
