"""Single operations, each in a loop over system calls.

They run in a child process, the same for every target, so what Python itself costs is the same
in every column. The files were laid out in the source before the mount was made (`prepare.py`).
"""

from __future__ import annotations

import os
import random
from time import perf_counter_ns

from .job import DROP_CACHES, Job, Wrong

KIB = bytes(range(256)) * 4
BLOCK = 1 << 20
PAGE = 4096


def drop_caches(job: Job) -> None:
    """Drop the kernel's names and inodes, where we may; else the mount is fresh anyhow."""
    if job.drop:
        DROP_CACHES.write_text("2")


def create(job: Job) -> float:
    """Create, write 1 KiB, close."""
    folder = job.root / "created"
    folder.mkdir()
    paths = [str(folder / f"file-{number:05}") for number in range(job.sizes.files)]
    start = perf_counter_ns()
    for path in paths:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, KIB)
        os.close(descriptor)
    return _microseconds(start, len(paths))


def stat_cold(job: Job) -> float:
    """Stat files that this mount has never seen."""
    paths = _paths(job, "cold")
    drop_caches(job)
    return _stat_all(paths)


def stat_warm(job: Job) -> float:
    """Stat files again, at once."""
    paths = _paths(job, "files")
    _stat_all(paths)
    return _stat_all(paths)


def read(job: Job) -> float:
    """Open, read 1 KiB, close; each file for the first time."""
    paths = _paths(job, "files")
    _stat_all(paths)
    start = perf_counter_ns()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        data = os.read(descriptor, 2 * len(KIB))
        os.close(descriptor)
        if len(data) != len(KIB):
            raise Wrong(f"read {len(data)} bytes of {len(KIB)}")
    return _microseconds(start, len(paths))


def readdir_cold(job: Job) -> float:
    """List a directory that this mount has never seen, and stat what is in it."""
    drop_caches(job)
    return _list_all(job)


def readdir_warm(job: Job) -> float:
    """List and stat it again, at once."""
    _list_all(job)
    return _list_all(job)


def rename(job: Job) -> float:
    """Give each file a new name in its directory."""
    paths = _paths(job, "renamed")
    _stat_all(paths)
    start = perf_counter_ns()
    for path in paths:
        os.rename(path, path + ".new")
    return _microseconds(start, len(paths))


def unlink(job: Job) -> float:
    """Remove each file."""
    paths = _paths(job, "removed")
    _stat_all(paths)
    start = perf_counter_ns()
    for path in paths:
        os.unlink(path)
    return _microseconds(start, len(paths))


def seq_write(job: Job) -> float:
    """Write a new file from its start to its end, and close it; the second one counts.

    The first one leaves memory at hand for the second (see `host.touch_memory`).
    """
    _write_through(job)
    return _write_through(job)


def seq_read_cold(job: Job) -> float:
    """Read a file that this mount has never seen; the host's own cache holds it."""
    return _read_through(job)


def seq_read_warm(job: Job) -> float:
    """Open it again and read it again."""
    _read_through(job)
    return _read_through(job)


def random_read(job: Job) -> float:
    """Read pages here and there of an open file that was read through once."""
    descriptor = os.open(job.root / "pages", os.O_RDONLY)
    while os.read(descriptor, BLOCK):
        pass
    offsets = _offsets(job, job.sizes.random_reads)
    start = perf_counter_ns()
    for offset in offsets:
        os.pread(descriptor, PAGE, offset)
    cost = _microseconds(start, len(offsets))
    os.close(descriptor)
    return cost


def random_write(job: Job) -> float:
    """Write pages here and there of an open file."""
    descriptor = os.open(job.root / "pages", os.O_RDWR)
    page = random.Random(2).randbytes(PAGE)
    offsets = _offsets(job, job.sizes.random_writes)
    start = perf_counter_ns()
    for offset in offsets:
        os.pwrite(descriptor, page, offset)
    cost = _microseconds(start, len(offsets))
    os.fsync(descriptor)
    os.close(descriptor)
    return cost


def _microseconds(start: int, count: int) -> float:
    return (perf_counter_ns() - start) / 1000 / count


def _megabytes(start: int, mebibytes: int) -> float:
    return mebibytes * BLOCK / 1e6 / ((perf_counter_ns() - start) / 1e9)


def _paths(job: Job, folder: str) -> list[str]:
    return [str(job.root / folder / f"file-{number:05}") for number in range(job.sizes.files)]


def _stat_all(paths: list[str]) -> float:
    start = perf_counter_ns()
    for path in paths:
        os.stat(path)
    return _microseconds(start, len(paths))


def _list_all(job: Job) -> float:
    folder = str(job.root / "listing")
    start = perf_counter_ns()
    names = os.listdir(folder)
    for name in names:
        os.stat(f"{folder}/{name}")
    cost = _microseconds(start, len(names))
    if len(names) != job.sizes.listing:
        raise Wrong(f"{len(names)} names listed of {job.sizes.listing}")
    return cost


def _write_through(job: Job) -> float:
    path, block = job.root / "written", random.Random(1).randbytes(BLOCK)
    start = perf_counter_ns()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for _ in range(job.sizes.stream_mib):
        if os.write(descriptor, block) != BLOCK:
            raise Wrong("a short write")
    os.close(descriptor)
    speed = _megabytes(start, job.sizes.stream_mib)
    # Written back and removed here, so that the next step does not pay for it.
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    path.unlink()
    return speed


def _read_through(job: Job) -> float:
    total = 0
    start = perf_counter_ns()
    descriptor = os.open(job.root / "stream", os.O_RDONLY)
    while size := len(os.read(descriptor, BLOCK)):
        total += size
    os.close(descriptor)
    speed = _megabytes(start, job.sizes.stream_mib)
    if total != job.sizes.stream_mib * BLOCK:
        raise Wrong(f"{total} bytes read of {job.sizes.stream_mib * BLOCK}")
    return speed


def _offsets(job: Job, count: int) -> list[int]:
    pages = job.sizes.random_mib * BLOCK // PAGE
    dice = random.Random(3)
    return [dice.randrange(pages) * PAGE for _ in range(count)]
