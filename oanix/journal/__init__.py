"""Journal: what a namespace did at its capabilities and changed, as a chain of hashes.

    FOLDER/00000001.jsonl   records, one JSON object a line, oldest segment first
    ANCHOR                  the head of the chain (count, hash, time), with a tag, in a second place

`Journal` observes namespaces and writes; `verify` finds what was changed afterwards; `lines` reads.
The form of a record and what each step of the verification means: docs/man/journal.md.
"""

from oanix.journal.anchor import Anchor, Authenticator, Head
from oanix.journal.reading import Place, Tail, lines
from oanix.journal.recorder import Journal
from oanix.journal.segments import Limits
from oanix.journal.verify import Finding, Problem, Trust, verify

__all__ = [
    "Anchor",
    "Authenticator",
    "Finding",
    "Head",
    "Journal",
    "Limits",
    "Place",
    "Problem",
    "Tail",
    "Trust",
    "lines",
    "verify",
]
