"""A file service in about fifty lines: counters. docs/writing-a-service.md explains each step.

Mount it with `python examples/counter_service.py MOUNTPOINT`.
"""

import sys

import trio

from mounts.fuse import serve
from oanix.kit import (
    Conversation,
    Ctl,
    Message,
    New,
    Opening,
    Ring,
    Rows,
    Stream,
    TableService,
    Text,
    Value,
    facts,
    integer,
    no_argument,
)
from oanix.namespace import Namespace


class CounterFs(TableService):
    """Counts, for whoever asks.

    new     read it: a counter of your own, by its number; <n>/ctl takes: add NUMBER, close
    status  how many counters there are, and what all of them have counted
    step    what `add` adds when it is given no number; write another
    note    write a line: it goes to events
    events  what happens, a line each, without end
    """

    name = "counter"

    def __init__(self) -> None:
        super().__init__()
        self.total, self.step, self.events = 0, 1, Ring()
        self.talks = self.conversations(self.begin)
        self.grow(
            (
                ("new", 0o444, New(self.talks)),
                ("status", 0o444, Text(self.show)),
                ("step", 0o644, Value(lambda opening: f"{self.step}\n", self.set_step)),
                ("note", 0o222, Message(lambda line, opening: self.events.put(line))),
                ("events", 0o444, Stream(self.events)),
            ),
            self.talks,
        )

    def show(self, opening: Opening) -> str:
        return facts({"counters": len(self.talks.names()), "total": self.total})

    def set_step(self, line: str, opening: Opening) -> None:
        self.step = integer(line, 1, 1000)

    def begin(self, talk: Conversation) -> Rows:
        counted = 0

        def add(argument: str, opening: Opening) -> None:
            nonlocal counted
            number = integer(argument, -1000, 1000) if argument else self.step
            counted += number
            self.total += number
            self.events.put(f"counter {talk.number} is at {counted}")

        return (
            ("ctl", 0o222, Ctl({"add": add, "close": no_argument(talk.end)})),
            ("count", 0o444, Text(lambda opening: f"{counted}\n")),
            ("status", 0o444, Text(lambda opening: facts(talk.facts()))),
        )


async def main(mountpoint: str) -> None:
    service, namespace = CounterFs(), Namespace()
    namespace.mount(service, "/")
    async with service.running():
        await serve(namespace, mountpoint)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/counter_service.py MOUNTPOINT")
    try:
        trio.run(main, sys.argv[1])
    except* KeyboardInterrupt:
        pass
