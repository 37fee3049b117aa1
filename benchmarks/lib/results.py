"""The figures of a run: medians, ratios, and their form as JSON."""

from __future__ import annotations

from statistics import median
from typing import Any

from attrs import asdict, define, field, frozen

from .metrics import METRICS, Metric, Sizes


@frozen
class Machine:
    """Where the figures come from; nothing in it names a host or a path."""

    cores: int
    memory_gib: int
    kernel: str
    python: str
    pyfuse3: str
    filesystem: str
    load: float
    versions: dict[str, str]

    def line(self) -> str:
        """Return the description in one line."""
        programs = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return (
            f"{cores}, {self.memory_gib} GiB, Linux {self.kernel}, "
            f"{self.filesystem}, Python {self.python}, pyfuse3 {self.pyfuse3}"
            + (f", {programs}" if programs else "")
        )


@define
class Results:
    """Every figure of every round, by metric and target, and what went wrong."""

    machine: Machine
    date: str
    rounds: int
    sizes: Sizes
    targets: list[str]
    metrics: list[str]
    complete: bool
    notes: list[str] = field(factory=list)
    values: dict[str, dict[str, list[float]]] = field(factory=dict)
    failures: dict[str, dict[str, list[str]]] = field(factory=dict)

    def add(self, metric: str, target: str, value: float) -> None:
        """Keep one figure."""
        self.values.setdefault(metric, {}).setdefault(target, []).append(value)

    def fail(self, metric: str, target: str, sentence: str) -> None:
        """Keep the reason why there is no figure."""
        self.failures.setdefault(metric, {}).setdefault(target, []).append(sentence)

    def failed(self, target: str) -> bool:
        """Say whether any step went wrong on this target."""
        return any(target in by_target for by_target in self.failures.values())

    def shown(self) -> list[Metric]:
        """Return the rows that were asked for, in the order of the table."""
        return [metric for metric in METRICS if metric.name in self.metrics]

    def value(self, metric: Metric, target: str) -> float | None:
        """Return the median of the rounds."""
        values = self.values.get(metric.name, {}).get(target)
        return median(values) if values else None

    def spread(self, metric: Metric, target: str) -> float:
        """Return how much larger the largest figure of all rounds is than the smallest."""
        values = self.values.get(metric.name, {}).get(target, [1.0])
        return max(values) / max(min(values), 1e-9)

    def ratio(self, metric: Metric, target: str, base: str) -> float | None:
        """Return how many times as costly the target is as the base; above 1 is worse."""
        ours, theirs = self.value(metric, target), self.value(metric, base)
        if not ours or not theirs:
            return None
        return metric.cost(ours, theirs)

    def to_json(self) -> dict[str, Any]:
        """Return everything, with medians and ratios worked out for those who only read."""
        summary = {}
        for metric in self.shown():
            summary[metric.name] = {
                "title": metric.heading(self.sizes),
                "unit": metric.unit,
                "median": {name: self.value(metric, name) for name in self.targets},
                "to_bare": {name: self.ratio(metric, name, "bare") for name in self.targets},
                "to_bindfs": {name: self.ratio(metric, name, "bindfs") for name in self.targets},
            }
        return {**asdict(self), "summary": summary}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Results:
        """Read back what `to_json` gave. Raises KeyError or TypeError for anything else."""
        fields = {name: value for name, value in data.items() if name != "summary"}
        fields["machine"] = Machine(**fields["machine"])
        fields["sizes"] = Sizes(**fields["sizes"])
        return cls(**fields)
