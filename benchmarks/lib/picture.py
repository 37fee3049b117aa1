"""Draw the ratios to the bare directory as bars on a logarithmic scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import number

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from .metrics import Metric
    from .results import Results

TIMES = "\N{MULTIPLICATION SIGN}"
# Told apart by lightness as well as by hue.
COLOURS = {"oanix": "#0b6e4f", "bindfs": "#f2a541", "rclone": "#8ea8c3"}


class NoPicture(Exception):
    """There is nothing to draw, or nothing to draw it with."""


def draw(results: Results, path: Path) -> None:
    """Write the picture. Raises NoPicture with a sentence that says what to do."""
    try:
        # A large library that the table does without.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NoPicture("the picture needs matplotlib: pip install -e .[bench]") from error
    targets = [name for name in results.targets if name in COLOURS]
    metrics = [m for m in results.shown() if any(results.ratio(m, t, "bare") for t in targets)]
    if not metrics:
        raise NoPicture("the picture needs figures of the bare directory and of a mount")
    figure = Figure(figsize=(10.5, 1.6 + 0.145 * len(metrics) * (len(targets) + 0.7)))
    axes = figure.add_subplot()
    for place, target in enumerate(targets):
        _bars(axes, results, metrics, target, place=place, count=len(targets))
    _label(axes, results, metrics)
    figure.savefig(path, dpi=100, bbox_inches="tight", metadata={"Software": None})


def _bars(
    axes: Axes, results: Results, metrics: list[Metric], target: str, *, place: int, count: int
) -> None:
    height = 0.84 / count
    ratios = [(row, results.ratio(m, target, "bare")) for row, m in enumerate(metrics)]
    known = [(row, ratio) for row, ratio in ratios if ratio is not None]
    rows = [row - 0.42 + height * (place + 0.5) for row, _ in known]
    axes.barh(
        rows, [ratio - 1 for _, ratio in known], height * 0.92,
        left=1, color=COLOURS[target], label=target,
    )  # fmt: skip
    for row, (_, ratio) in zip(rows, known, strict=True):
        right = ratio >= 1
        axes.annotate(
            f"{number(ratio)}{TIMES}", (ratio, row), xytext=(3 if right else -3, 0),
            textcoords="offset points", va="center", ha="left" if right else "right", fontsize=7,
        )  # fmt: skip


def _label(axes: Axes, results: Results, metrics: list[Metric]) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.4 if low < 0.95 else 0.9, high * 1.5)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(metrics)), [m.heading(results.sizes) for m in metrics], fontsize=9)
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}{TIMES}")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(
        "cost relative to the bare directory, logarithmic; shorter is better\n"
        + results.machine.line(),
        fontsize=8,
    )
    axes.set_title("Through a mount, against the directory itself", loc="left", fontsize=11)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9)
