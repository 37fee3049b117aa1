"""The list of everything that `benchmarks/fs.py` measures, and how much of it."""

from __future__ import annotations

from typing import Literal

from attrs import asdict, frozen

Unit = Literal["µs", "MB/s", "s", "MiB"]


@frozen
class Sizes:
    """How much work one round does."""

    files: int = 1000
    listing: int = 1000
    stream_mib: int = 256
    random_mib: int = 64
    random_reads: int = 20_000
    random_writes: int = 2000
    tree_files: int = 10_000
    git_files: int = 300
    git_commits: int = 60
    transactions: int = 1000
    memory_files: int = 100_000


FULL = Sizes()
QUICK = Sizes(
    files=300,
    listing=1000,
    stream_mib=64,
    random_mib=16,
    random_reads=5000,
    random_writes=500,
    tree_files=1000,
    transactions=100,
    memory_files=10_000,
)


@frozen
class Metric:
    """One row of the table. `program` is what must be installed for it."""

    name: str
    group: str
    unit: Unit
    title: str
    program: str | None = None

    def heading(self, sizes: Sizes) -> str:
        """Return the title with the sizes of this run filled in."""
        return self.title.format(**asdict(sizes))

    def cost(self, value: float, base: float) -> float:
        """Return how many times as costly as `base` the value is: above 1 is always worse."""
        return base / value if self.unit == "MB/s" else value / base


METRICS = (
    Metric("create", "small", "µs", "create + write 1 KiB + close"),
    Metric("stat-cold", "small", "µs", "stat, cold"),
    Metric("stat-warm", "small", "µs", "stat, warm"),
    Metric("read", "small", "µs", "open + read 1 KiB + close"),
    Metric("readdir-cold", "small", "µs", "list + stat {listing:,} files, cold, per file"),
    Metric("readdir-warm", "small", "µs", "list + stat {listing:,} files, warm, per file"),
    Metric("rename", "small", "µs", "rename"),
    Metric("unlink", "removal", "µs", "unlink"),
    Metric("seq-write", "stream", "MB/s", "sequential write, {stream_mib} MiB"),
    Metric("seq-read-cold", "stream", "MB/s", "sequential read, first time"),
    Metric("seq-read-warm", "stream", "MB/s", "sequential read, opened again"),
    Metric("random-read", "stream", "µs", "random 4 KiB read, cached"),
    Metric("random-write", "stream", "µs", "random 4 KiB write"),
    Metric("git-clone", "tools", "s", "git clone, {git_files} files", "git"),
    Metric("git-status", "tools", "s", "git status", "git"),
    Metric("compileall", "tools", "s", "python -m compileall"),
    Metric("sqlite", "tools", "s", "SQLite, {transactions:,} transactions"),
    Metric("tar", "tree", "s", "tar x, {tree_files:,} small files", "tar"),
    Metric("rg", "tree", "s", "rg, {tree_files:,} small files", "rg"),
    Metric("grep", "tree", "s", "grep -r, {tree_files:,} small files", "grep"),
    Metric("rm", "removal", "s", "rm -rf, {tree_files:,} small files", "rm"),
    Metric("memory-rss", "memory", "MiB", "server memory, {memory_files:,} files looked up"),
    Metric("memory-peak", "memory", "MiB", "server memory, peak"),
)
GROUPS = ("small", "stream", "tools", "tree", "removal", "memory")
# One round. The small operations are quick and depend most on where the scheduler happens to
# put client and server, so they come twice.
ROUND = ("small", "stream", "tools", "tree", "small")


def select(names: list[str]) -> list[Metric]:
    """Return the metrics that the names (of metrics or groups) mean; no name means all.

    Raises ValueError with a sentence for a name that is neither.
    """
    known = {metric.name for metric in METRICS} | set(GROUPS)
    unknown = [name for name in names if name not in known]
    if unknown:
        choices = ", ".join([*GROUPS, *(metric.name for metric in METRICS)])
        raise ValueError(f"no such measurement: {', '.join(unknown)}; there are {choices}")
    return [m for m in METRICS if not names or m.name in names or m.group in names]
