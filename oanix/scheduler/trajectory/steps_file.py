"""Steps: the file `/task/steps`, where a job records steps of its own: what it asked a model.

A line is a step of ATIF v1.4 as JSON, without its number: message, model_name, reasoning_content,
metrics, tool_calls, observation, extra. The error of one that is none comes from the write.
"""

import errno
import json
from typing import TYPE_CHECKING, Any, Final

from oanix.errors import fault
from oanix.kit import Handler, Opening
from oanix.kit.lines import MessageHandle
from oanix.node import Handle

if TYPE_CHECKING:
    from oanix.scheduler.job import Job

STEP_MAX: Final = 65_536
"""Bytes of one step."""


class Steps(Handler):
    """The file."""

    writes = True

    def __init__(self, job: "Job") -> None:
        self._job = job

    async def open(self, opening: Opening) -> Handle:
        return _StepsHandle(opening, self._add, STEP_MAX)

    def _add(self, line: str, opening: Opening) -> bool:
        if not line.strip():
            return False
        recorder = self._job.trajectory
        if recorder is None:
            raise fault(errno.ESRCH, f"job {self._job.id} does not run: it adds no steps now")
        size = len(line.encode("utf-8", "surrogateescape"))
        recorder.admit(size)
        recorder.own(parse_step(line), size)
        return True


class _StepsHandle(MessageHandle):
    told = True


def parse_step(line: str) -> dict[str, Any]:
    """Read a step. Raises OSError EINVAL for what is no JSON object."""
    try:
        said = json.loads(line.encode("utf-8", "surrogateescape"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise fault(errno.EINVAL, f"a step is a line of JSON: {str(error)[:200]}") from None
    if not isinstance(said, dict):
        raise fault(errno.EINVAL, "a step is a JSON object")
    return said


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")
