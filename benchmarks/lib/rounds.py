"""Run the rounds: each group of steps on one target after the other, again and again."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, define, field

from .host import fresh
from .job import DROP_CACHES
from .metrics import GROUPS, ROUND, Metric
from .mounts import abort, memory_of, server_processes
from .prepare import prepare_round
from .process import CommandFailed, plain_environment, run
from .targets import MountFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .results import Results
    from .targets import Places, Target

HOME = Path(__file__).resolve().parent.parent


def can_drop_caches() -> bool:
    """Say whether this process may drop the kernel's names and inodes."""
    return os.access(DROP_CACHES, os.W_OK)


@define
class Run:
    """One run of the benchmark. Only one target is mounted at any time.

    So no server disturbs another with what it does later (rclone copies files seconds after
    they are closed), and every group of steps begins with a fresh mount. Nothing is removed
    before all that creates files is done: on ext4 the one slows the other (`host.spread`).
    """

    places: Places
    targets: Sequence[Target]
    metrics: Sequence[Metric]
    results: Results
    timeout: float
    given_up: set[tuple[str, str]] = field(factory=set)

    def everything(self) -> None:
        """Do all rounds, then those that remove files, then the measurement of memory, once."""
        numbers = range(1, self.results.rounds + 1)
        for number in numbers:
            for group in ROUND:
                self._group(group, number)
        for number in numbers:
            self._group("removal", number)
        if any(metric.group == "memory" for metric in self.metrics):
            self._memory()

    def _group(self, group: str, number: int) -> None:
        steps = [metric.name for metric in self.metrics if metric.group == group]
        if not steps:
            return
        _say(f"round {number} of {self.results.rounds}, {group}:", end="")
        for target in self.targets:
            if (target.name, group) in self.given_up:
                continue
            _say(f" {target.name}", end="")
            folder = fresh(self.places.source, f"{group}-{number}-{target.name}")
            prepare_round(self.places, group, folder, self.results.sizes)
            try:
                with target.mounted(self.places) as mount:
                    output = self._work(mount.root / folder.name, steps)
                self._keep(target, steps, output)
            except MountFailed as failure:
                self._keep(target, [metric.name for metric in self.metrics], "", str(failure))
                self.given_up |= {(target.name, each) for each in GROUPS}
            except CommandFailed as failure:
                self._keep(target, steps, failure.output, str(failure))
                self.given_up.add((target.name, group))
        _say("")

    def _work(self, root: Path, steps: list[str]) -> str:
        """Let a child process do the steps: it may hang in a mount, this process must not."""
        order = {
            "root": str(root),
            "fixtures": str(self.places.fixtures),
            "steps": steps,
            "sizes": asdict(self.results.sizes),
            "drop": can_drop_caches(),
            # Less than the whole group has, so that one slow command does not end the group.
            "timeout": self.timeout / 2,
        }
        environment = plain_environment(self.places.fixtures)
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return run(
            [sys.executable, "-m", "lib.worker", json.dumps(order)],
            timeout=self.timeout, cwd=HOME, env=environment,
            on_stuck=lambda: abort(self.places.base),
        )  # fmt: skip

    def _keep(self, target: Target, steps: list[str], output: str, failure: str = "") -> None:
        missing = dict.fromkeys(steps, failure or "gave no answer")
        for line in output.splitlines():
            answer = json.loads(line)
            del missing[answer["step"]]
            if "value" in answer:
                self.results.add(answer["step"], target.name, answer["value"])
            else:
                missing[answer["step"]] = answer["failed"]
        plain = {s: why.replace(f"{self.places.base}/", "") for s, why in missing.items()}
        for step, sentence in plain.items():
            self.results.fail(step, target.name, sentence)
        for sentence in dict.fromkeys(plain.values()):
            names = ", ".join(step for step, why in plain.items() if why == sentence)
            names = "everything" if len(steps) == len(self.metrics) > 1 else names
            _say(f" ({names} failed: {sentence})", end="")

    def _memory(self) -> None:
        _say("memory:", end="")
        for target in self.targets:
            if target.mount is None or (target.name, "memory") in self.given_up:
                continue
            _say(f" {target.name}", end="")
            steps = [metric.name for metric in self.metrics if metric.group == "memory"]
            try:
                with target.mounted(self.places) as mount:
                    self._work(mount.root / "memory", ["look-up"])
                    servers = server_processes(mount.point) if mount.point else []
                    if not servers:
                        raise CommandFailed("no process names the mount point")
                    resident, peak = memory_of(servers)
                self.results.add("memory-rss", target.name, resident)
                self.results.add("memory-peak", target.name, peak)
            except CommandFailed as failure:
                self._keep(target, steps, "", str(failure))
        _say("")


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
