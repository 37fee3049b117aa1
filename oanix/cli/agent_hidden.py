"""Hidden: what a job that begins does not see of the files that it was given, said by name."""

import fnmatch
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence

import trio
from attrs import frozen

from oanix.cli.agent_tree import Here, Mounted, Tree
from oanix.cli.output import complain, escape
from oanix.recipe import Bind, parse
from oanix.scheduler.kinds import left_out

PATIENCE_S = 0.3
"""For how long names are looked for; after that the patterns are told."""

SHOWN = 8
"""Names that are told."""


@frozen
class Hidden:
    """What of one place is hidden: names that are there, and whether all were looked at."""

    patterns: Sequence[str]
    names: Sequence[str]
    whole: bool

    def told(self) -> str:
        """Say it; "" when nothing is hidden."""
        patterns = ", ".join(self.patterns)
        if not self.names:
            return "" if self.whole else f"what is called {patterns}"
        names = ", ".join(self.names[:SHOWN])
        if len(self.names) > SHOWN:
            return f"{names}, and {len(self.names) - SHOWN} more"
        return names if self.whole else f"{names}, and what else is called {patterns}"


async def tell_world(tree: Tree, number: str) -> None:
    """Say on the standard error what a job that was started does not get."""
    spec = json.loads(await tree.read(f"/jobs/{number}/spec"))
    for missing in left_out(spec["namespace"]):
        complain(f"oanix: it does without {escape(missing)}")
    recipe = await tree.read(f"/jobs/{number}/ns")
    told = []
    for placed in parse(recipe, "ns"):
        line = placed.line
        patterns = line.options.get("exclude", "") if isinstance(line, Bind) else ""
        if isinstance(line, Bind) and patterns:
            told.append((await _looked(tree, line.source, patterns.split(":"))).told())
    if any(told):
        complain(f"oanix: hidden from it: {escape('; '.join(filter(None, told)))}")


async def _looked(tree: Tree, top: str, patterns: Sequence[str]) -> Hidden:
    if isinstance(tree, Mounted):
        # A server that is busy answers late.
        return await trio.to_thread.run_sync(look, walk(tree, top), patterns)
    return look(walk(tree, top), patterns)


def walk(tree: Tree, top: str) -> Iterator[str]:
    """Go through the files beneath a place, by their paths from there; nearer ones come first."""
    if isinstance(tree, Mounted):
        return _walk_host(tree.mountpoint + top)
    assert isinstance(tree, Here)
    return tree.beneath(top)


def _walk_host(top: str) -> Iterator[str]:
    todo = [""]
    while todo:
        folder = todo.pop(0)
        try:
            entries = list(os.scandir(os.path.join(top, folder)))
        except OSError:
            # It went meanwhile, or is closed to whoever asks: then it is no news of this job.
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name)
            yield path
            if entry.is_dir(follow_symlinks=False):
                todo.append(path)


def look(found: Iterable[str], patterns: Sequence[str]) -> Hidden:
    """Look which of these paths are hidden, for a while."""
    end = time.monotonic() + PATIENCE_S
    names: list[str] = []
    whole = True
    for count, path in enumerate(found):
        if any(path.startswith(f"{name}/") for name in names):
            continue
        if any(hides(pattern, path) for pattern in patterns):
            names.append(path)
        if count % 64 == 0 and time.monotonic() > end:
            whole = False
            break
    return Hidden(patterns, sorted(names), whole)


def hides(pattern: str, path: str) -> bool:
    """Tell whether a pattern of `exclude` is about a path (docs/man/workspace.md)."""
    wanted, parts = pattern.strip("/").split("/"), path.split("/")
    if len(wanted) > len(parts) or (pattern.startswith("/") and len(wanted) != len(parts)):
        return False
    pairs = zip(wanted, parts[-len(wanted) :], strict=True)
    return all(fnmatch.fnmatchcase(part, one) for one, part in pairs)
