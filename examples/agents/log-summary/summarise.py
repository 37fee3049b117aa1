"""Log summary: says in a screen what happened in logs of any size.

    summarise.py [--top N] [FILE | FOLDER]...

It reads JSON lines (as those of /logs) and plain lines, packed or not, and tells how many there are
of each level, when most came, and which messages came most often: those that differ in numbers,
hashes, addresses or quoted names are counted as one. It writes the same to /task/result.json.
"""

import argparse
import gzip
import json
import os
import re
from collections import Counter

LEVELS = ("critical", "error", "warning", "notice", "info", "debug", "trace")
ALIKE = {"warn": "warning", "err": "error", "fatal": "critical", "crit": "critical"}
LEVEL = re.compile(rf"\b({'|'.join([*LEVELS, *ALIKE])})\b", re.IGNORECASE)
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")
SAME = (
    (re.compile(r"\"[^\"]*\"|'[^']*'"), "'…'"),
    (re.compile(r"\b[0-9a-f]{8,}\b(-[0-9a-f]{4,})*", re.IGNORECASE), "HEX"),
    (re.compile(r"\b\d+(\.\d+)*\b"), "N"),
    (re.compile(r"\s+"), " "),
)
LINE_MAX = 1 << 20
SHAPES_MAX = 50_000


class Summary:
    """What was counted."""

    def __init__(self):
        self.lines = 0
        self.levels = Counter()
        self.hours = Counter()
        self.sources = Counter()
        self.shapes = Counter()
        self.examples = {}
        self.first = self.last = ""

    def take(self, line):
        """Count a line."""
        self.lines += 1
        level, time, source, message = parsed(line)
        self.levels[level] += 1
        if source:
            self.sources[source] += 1
        if time:
            self.first = min(self.first or time, time)
            self.last = max(self.last, time)
            self.hours[time[:13]] += 1
        shape = f"{level} {shape_of(message)}"
        if shape not in self.shapes and len(self.shapes) >= SHAPES_MAX:
            # So many kinds of messages are none; the most frequent ones are there by now.
            shape = f"{level} (other messages)"
        self.shapes[shape] += 1
        self.examples.setdefault(shape, message[:200])

    def told(self, top):
        """Give it as JSON."""
        return {
            "lines": self.lines, "first": self.first, "last": self.last,
            "levels": {level: self.levels[level] for level in LEVELS if self.levels[level]},
            "busiest": self.hours.most_common(3), "sources": self.sources.most_common(top),
            "messages": [
                {"count": count, "level": shape.split(" ", 1)[0], "like": self.examples[shape]}
                for shape, count in self.shapes.most_common(top)
            ],
            "errors": [
                {"count": count, "like": self.examples[shape]}
                for shape, count in self.shapes.most_common()
                if shape.startswith(("error ", "critical "))
            ][:top],
        }  # fmt: skip


def parsed(line):
    """Give the level, time, source and message of a line."""
    if line.startswith("{"):
        try:
            said = json.loads(line)
        except ValueError:
            said = {}
        if said:
            level = str(said.get("level", "info")).lower()
            time = str(said.get("timestamp") or said.get("time") or "")
            message = str(said.get("message") or said.get("msg") or "")
            source = str(said.get("source", "")).split(" ")[0]
            return ALIKE.get(level, level), time[:19].replace(" ", "T"), source, message
    found = TIME.search(line)
    level = LEVEL.search(line)
    name = level[0].lower() if level else "info"
    message = line.replace(found[0], "", 1).strip(" []-:") if found else line
    return ALIKE.get(name, name), found[0][:19].replace(" ", "T") if found else "", "", message


def shape_of(message):
    """Give what a message has in common with others of its kind."""
    for pattern, instead in SAME:
        message = pattern.sub(instead, message)
    return message.strip()[:200]


def files_of(places):
    """List the logs; those of jobs, in `runs`, when they are named."""
    for place in places:
        if not os.path.isdir(place):
            yield place
            continue
        for folder, folders, names in os.walk(place):
            folders[:] = sorted(name for name in folders if name != "runs")
            wanted = (".log", ".jsonl", ".gz")
            yield from (f"{folder}/{name}" for name in sorted(names) if name.endswith(wanted))


def lines_of(path):
    """Read the lines of a log; one that is too long is cut."""
    opened = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # noqa: SIM115
    with opened as file:
        while piece := file.readline(LINE_MAX):
            yield piece.decode("utf-8", "backslashreplace").rstrip("\r\n")


def main():
    parser = argparse.ArgumentParser(description="Say in a screen what happened.")
    parser.add_argument("places", nargs="*", default=["/input"], metavar="FILE|FOLDER")
    parser.add_argument("--top", type=int, default=5)
    given = parser.parse_args()
    summary, files = Summary(), 0
    for path in files_of(given.places):
        files += 1
        for line in lines_of(path):
            if line.strip():
                summary.take(line)
    told = {"files": files, **summary.told(given.top)}
    span = f"{summary.first or '?'} to {summary.last or '?'}"
    print(f"{summary.lines} lines in {files} files, {span}")
    print("levels:", ", ".join(f"{name} {count}" for name, count in told["levels"].items()) or "-")
    for hour, count in told["busiest"][:1]:
        print(f"busiest hour: {hour} with {count} lines")
    for title, found in (("errors", told["errors"]), ("most frequent", told["messages"])):
        if found:
            print(f"{title}:")
            for one in found:
                print(f"{one['count']:>7}  {one['like']}")
    if os.path.isdir("/task"):
        with open("/task/result.json", "w", encoding="utf-8") as file:
            json.dump(told, file)


main()
