"""Journal: what a namespace did at its capabilities and changed, as a chain of hashes.

    FOLDER/00000001.jsonl   records, one JSON object a line, oldest segment first
    ANCHOR                  the head of the chain (count, hash, time), with a tag, in a second place

`Journal` observes namespaces and writes; `verify` finds what was changed afterwards; `lines` reads.
The form of a record and what each step of the verification means: docs/man/journal.md.
"""

from oanix.journal.anchor import Anchor, Authenticator, Head
from oanix.journal.place import JournalPlace
from oanix.journal.reading import Place, Tail, lines, size
from oanix.journal.recorder import Journal, KeySource
from oanix.journal.segments import Limits
from oanix.journal.verify import Finding, Problem, Trust, verify

__all__ = [
    "Anchor",
    "Authenticator",
    "Finding",
    "Head",
    "Journal",
    "JournalPlace",
    "KeySource",
    "Limits",
    "Place",
    "Problem",
    "Tail",
    "Trust",
    "lines",
    "size",
    "verify",
]
