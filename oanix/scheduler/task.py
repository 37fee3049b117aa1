"""Task: what a job sees of its own order, and where it leaves its answer (`/task`)."""

import errno
import json

from oanix.errors import fault
from oanix.kit import Folder, Handler, Opening, Rows, TableDirectory, Text, facts
from oanix.kit.file import File, check_truncate
from oanix.node import READABLE, WRITABLE, Handle, Node
from oanix.scheduler.job import Job
from oanix.scheduler.trajectory.steps_file import Steps

RESULT_MAX = 1 << 20
"""Bytes of a result."""


def task_folder(job: Job) -> Folder:
    """Make the files: `spec.json`, `meta.json`, `status`, `result.json`, `steps`; `program/`."""
    return Folder(
        [
            ("spec.json", 0o400, Text(lambda _: job.spec.show())),
            ("meta.json", 0o400, Text(lambda _: _meta(job))),
            ("status", 0o400, Text(lambda _: facts(job.facts()))),
            ("result.json", 0o600, Result(job)),
            ("steps", 0o200, Steps(job)),
        ],
        _Program(job),
    )


class _Program:
    """`program`: the directory with the script that runs, which need not be in its world."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._parent: TableDirectory | None = None
        self._made: tuple[tuple[str, bytes], TableDirectory] | None = None

    def find(self, name: str) -> Node | None:
        """Find it."""
        script, parent = self._job.script, self._parent
        if name != "program" or script is None or parent is None:
            return None
        if self._made is None or self._made[0] is not script:
            rows: Rows = [(script[0], 0o400, Text(script[1]))]
            self._made = script, TableDirectory(
                parent.service, Folder(rows), 0o500, owner=parent.owner, guard=parent.guard,
                now=parent.now,
            )  # fmt: skip
        return self._made[1]

    def names(self) -> list[str]:
        """List it."""
        return ["program"] if self._job.script is not None else []

    def placed(self, directory: TableDirectory) -> None:
        """Learn whose it is."""
        self._parent = directory


def _meta(job: Job) -> str:
    said = {
        "id": job.id, "parent": job.parent, "try": job.tries, "name": job.spec.name,
        "kind": job.spec.kind, "module": job.spec.module, "interpreter": job.spec.interpreter,
        "created": job.created,
        "started": job.started, "limits": job.usage.get("limits", {}),
    }  # fmt: skip
    return json.dumps(said, ensure_ascii=False, indent=2) + "\n"


class Result(Handler):
    """`result.json`: the answer of a job, any JSON; it is checked when it is closed."""

    reads = True
    writes = True

    def __init__(self, job: Job) -> None:
        self._job = job

    def size(self) -> int:
        return len(self._job.result)

    async def open(self, opening: Opening) -> Handle:
        return _ResultHandle(self._job, opening)


class _ResultHandle(Handle):
    def __init__(self, job: Job, opening: Opening) -> None:
        self._job = job
        self._opening = opening
        self._file: File = opening.file
        self._said = bytearray() if opening.writes else bytearray(job.result)
        self._changed = False

    def try_read(self, size: int, offset: int) -> bytes:
        if size < 0 or offset < 0:
            raise fault(errno.EINVAL, "sizes and offsets are not negative")
        return bytes(self._said[offset : offset + size])

    def try_write(self, data: bytes, offset: int) -> int:
        if not self._opening.writes:
            raise fault(errno.EBADF, "this file was not opened for writing")
        if offset > len(self._said) or offset + len(data) > RESULT_MAX:
            raise fault(errno.EFBIG, f"a result has at most {RESULT_MAX} bytes, and no holes")
        self._said[offset : offset + len(data)] = data
        self._changed = True
        return len(data)

    def truncate(self, size: int) -> None:
        check_truncate(size)
        self._said.clear()
        self._changed = True

    def flush(self) -> None:
        if self._changed and self._said:
            _check(bytes(self._said))

    def ready(self, wake: object) -> int:
        return READABLE | WRITABLE

    def close(self) -> None:
        if not self._changed:
            return
        try:
            if self._said:
                _check(bytes(self._said))
            self._job.result = bytes(self._said)
            self._file.written()
        except OSError as error:
            opening = self._opening
            opening.namespace.sentences.report(error, opening.caller, "close result.json")


def _check(said: bytes) -> None:
    try:
        json.loads(said)
    except (ValueError, RecursionError) as error:
        raise fault(errno.EINVAL, f"a result is JSON: {str(error)[:200]}") from None
