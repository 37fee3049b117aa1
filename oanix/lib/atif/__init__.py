"""ATIF: what an agent did, in the Agent Trajectory Interchange Format, version 1.4.

A trajectory is kept as JSON lines that are only appended to, a header and then a step each, so that
it can be read while it grows and after a crash; `document` makes the one JSON document of them.
"""

from oanix.lib.atif.check import check, check_step
from oanix.lib.atif.document import VERSION, Header, Lines, document, stamp, step_line
from oanix.lib.atif.model import Call, Step, Trajectory

__all__ = [
    "VERSION",
    "Call",
    "Header",
    "Lines",
    "Step",
    "Trajectory",
    "check",
    "check_step",
    "document",
    "stamp",
    "step_line",
]
