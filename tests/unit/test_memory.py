"""A server keeps freed memory, so that large pieces cost no new pages each time."""

import subprocess
import sys

PROGRAM = """
import resource, sys
from mounts.memory import keep_freed

def faults(pieces):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(pieces):
        bytes(bytearray(1 << 19))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed()
faults(8)
print(faults(400))
"""


def test_large_pieces_are_made_of_memory_that_is_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True
    )
    # 400 pieces of 128 pages, twice; without it each page is cleared anew.
    assert int(done.stdout) < 10_000
