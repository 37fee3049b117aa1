"""How Ctrl-C ends a command's work, in processes of their own."""

import signal
import subprocess
import sys

import pytest

from tests.commands import TIME_OUT_S

WORK = """
import itertools, select, signal, sys, time
from contextlib import asynccontextmanager
import trio
from oanix.cli.running import run_work

def say(text):
    print(text, flush=True)

@asynccontextmanager
async def opened():
    try:
        yield
    finally:
        # What a KeyboardInterrupt would break off.
        say("closes")
        with trio.CancelScope(shield=True):
            await trio.sleep(0)
        say("closed")

async def waits():
    async with opened():
        say("ready")
        await trio.sleep_forever()

async def stubborn():
    async with opened():
        heeds = signal.getsignal(signal.SIGINT)
        say("ready")
        while signal.getsignal(signal.SIGINT) == heeds:
            time.sleep(0.001)
        say("told")
        time.sleep(600)

async def ends(what):
    return what

async def loops(ends=False):
    async with opened():
        say("ready")
        # Most of the time it is in the midst of something.
        for number in itertools.count():
            if number % 1000 == 0:
                await trio.lowlevel.checkpoint()
                if ends and select.select([sys.stdin], [], [], 0)[0]:
                    break
        say("not interrupted")

try:
    say(run_work(*{"waits": [waits], "stubborn": [stubborn], "loops": [loops],
                   "loops until told": [loops, True], "ends": [ends, "ended"]}[sys.argv[1]]))
except KeyboardInterrupt:
    say("interrupted")
say(signal.getsignal(signal.SIGINT) == signal.default_int_handler)
"""


def _start(work: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-W", "error", "-c", WORK, work], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.parametrize("work", ["waits", "loops"])
def test_ctrl_c_lets_work_close_what_it_has_open(work: str) -> None:
    process = _start(work)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=TIME_OUT_S)
    assert (out, said) == ("closes\nclosed\ninterrupted\nTrue\n", "")


def test_the_second_ctrl_c_ends_work_that_does_not_give_way() -> None:
    process = _start("stubborn")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    # Of two signals at once the second may be lost, and a third would be one for what ends it.
    assert process.stdout.readline() == "told\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIME_OUT_S)
    assert out.endswith("interrupted\nTrue\n")


def test_work_that_ends_gives_its_result() -> None:
    out, said = _start("ends").communicate(timeout=TIME_OUT_S)
    assert (out, said) == ("ended\nTrue\n", "")


def test_ctrl_c_stays_ignored_where_it_was() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = _start("loops until told")
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=TIME_OUT_S)
    assert (out, said) == ("not interrupted\ncloses\nclosed\nNone\nFalse\n", "")


@pytest.mark.slow
def test_an_interrupt_while_a_command_is_loaded_ends_it_without_a_traceback() -> None:
    # It tells each module that it has imported, and would then wait for a key.
    words = (sys.executable, "-X", "importtime", "-m", "oanix", "nostr", "key", "import")
    for module in (b" click", b" oanix.errors"):
        with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.rstrip().endswith(module):
                    process.send_signal(signal.SIGINT)
                    break
            _, said = process.communicate(timeout=TIME_OUT_S)
        assert b"Traceback" not in said
        assert process.returncode in (-signal.SIGINT, 130)
