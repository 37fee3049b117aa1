"""The child process that does the steps of one group: `python -m lib.worker JOB`.

JOB is a JSON object. Each step answers with one JSON line as soon as it has ended, so that a
step that hangs takes nothing away from those before it.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from . import micro, workloads
from .job import Job, Wrong
from .metrics import Sizes
from .process import plain_environment

Step = Callable[[Job], float]

# The order counts: what must find the mount cold comes first in each group.
STEPS: dict[str, Step] = {
    "stat-cold": micro.stat_cold,
    "readdir-cold": micro.readdir_cold,
    "readdir-warm": micro.readdir_warm,
    "create": micro.create,
    "stat-warm": micro.stat_warm,
    "read": micro.read,
    "rename": micro.rename,
    "seq-read-cold": micro.seq_read_cold,
    "seq-read-warm": micro.seq_read_warm,
    "random-read": micro.random_read,
    "random-write": micro.random_write,
    "seq-write": micro.seq_write,
    "git-clone": workloads.git_clone,
    "git-status": workloads.git_status,
    "compileall": workloads.compileall,
    "sqlite": workloads.sqlite,
    "tar": workloads.tar,
    "rg": workloads.rg,
    "grep": workloads.grep,
    "unlink": micro.unlink,
    "rm": workloads.rm,
}


def answer(name: str, step: Step, job: Job) -> dict[str, str | float]:
    """Do one step; return what it measured, or the sentence that says how it failed."""
    try:
        return {"step": name, "value": step(job)}
    except subprocess.TimeoutExpired as error:
        return {"step": name, "failed": f"no end within {error.timeout:.0f} s"}
    except (OSError, sqlite3.Error, Wrong) as error:
        return {"step": name, "failed": str(error)}


def main() -> None:
    """Do the steps that the first argument names."""
    order = json.loads(sys.argv[1])
    fixtures = Path(order["fixtures"])
    job = Job(
        root=Path(order["root"]),
        fixtures=fixtures,
        sizes=Sizes(**order["sizes"]),
        drop=order["drop"],
        timeout=order["timeout"],
        environment=plain_environment(fixtures),
    )
    if order["steps"] == ["look-up"]:
        workloads.look_up(job)
        return
    for name, step in STEPS.items():
        if name in order["steps"]:
            print(json.dumps(answer(name, step, job)), flush=True)


if __name__ == "__main__":
    main()
