"""LogsFs: append-only logs, a stream of events, and a folder for each run.

README
stdout.log stderr.log NAME.log    lines as they came
events.jsonl NAME.jsonl           one JSON object a line
NAME.N.gz                         rotated logs, 1 is the newest
follow                            the records of events.jsonl as they come
runs/ID/                          stdout stderr events.jsonl of one job
"""

from oanix.services.logs.service import LogsFs

__all__ = ["LogsFs"]
