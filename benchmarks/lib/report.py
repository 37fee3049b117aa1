"""Show the figures: a table for the terminal, the same table in docs/performance.md."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .metrics import Metric
    from .results import Results

BEGIN = "<!-- benchmarks/fs.py: begin -->"
END = "<!-- benchmarks/fs.py: end -->"
WIDE = 2
PICTURE = "performance.png"
COMMAND = "python benchmarks/fs.py --write-docs"
NEW_PAGE = f"# Performance\n\n{BEGIN}\n{END}\n"


def text(results: Results) -> str:
    """Return the whole report as Markdown that also reads well in a terminal."""
    parts = [
        f"{results.date}. {results.machine.line()}.",
        f"Medians of {results.rounds} interleaved round{'s' if results.rounds > 1 else ''}; "
        "µs an operation, MB/s, seconds or MiB.",
        _table(*_figures(results)),
    ]
    ratios = _ratios(results)
    if ratios:
        parts += ["How many times as costly (above 1 is slower, below 1 is faster):"]
        parts += [_table(*ratios)]
    notes = [*results.notes, *_wide(results), *_failures(results)]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def write_page(page: Path, results: Results, *, picture: bool) -> None:
    """Replace the block between the two markers; a page that lacks them gets them at its end.

    Raises ValueError when the markers are damaged: then nothing is written.
    """
    old = page.read_text() if page.exists() else NEW_PAGE
    if BEGIN not in old and END not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    if (old.count(BEGIN), old.count(END)) != (1, 1) or old.index(END) < old.index(BEGIN):
        raise ValueError(f"{page.name} must have each marker once: {BEGIN} and then {END}")
    front, _, rest = old.partition(BEGIN)
    back = rest.partition(END)[2]
    image = f"![Cost of each operation relative to the bare directory]({PICTURE})\n\n"
    made = f"Made by `{COMMAND}`.\n\n{image if picture else ''}{text(results)}"
    page.parent.mkdir(exist_ok=True)
    fresh = page.with_name(f"{page.name}.new")
    fresh.write_text(f"{front}{BEGIN}\n{made}{END}{back}")
    os.replace(fresh, page)


def _figures(results: Results) -> tuple[list[str], list[list[str]]]:
    rows = []
    for metric in results.shown():
        cells = [_figure(results, metric, target) for target in results.targets]
        rows.append([metric.heading(results.sizes), metric.unit, *cells])
    return ["operation", "unit", *results.targets], rows


def _figure(results: Results, metric: Metric, target: str) -> str:
    value = results.value(metric, target)
    failed = target in results.failures.get(metric.name, {})
    if value is None:
        return "failed" if failed else "-"
    wide = "~" if results.spread(metric, target) > WIDE else ""
    return f"{wide}{number(value)}{' (!)' if failed else ''}"


def _ratios(results: Results) -> tuple[list[str], list[list[str]]] | None:
    pairs = [
        (target, base)
        for base in ("bare", "bindfs")
        for target in results.targets
        if base in results.targets and target not in ("bare", base)
    ]
    rows = []
    for metric in results.shown():
        ratios = [results.ratio(metric, target, base) for target, base in pairs]
        cells = ["-" if ratio is None else number(ratio) for ratio in ratios]
        if any(ratios):
            rows.append([metric.heading(results.sizes), *cells])
    if not rows:
        return None
    return ["operation", *(f"{target} / {base}" for target, base in pairs)], rows


def _wide(results: Results) -> list[str]:
    every = [(metric, target) for metric in results.shown() for target in results.targets]
    if all(results.spread(metric, target) <= WIDE for metric, target in every):
        return []
    return [
        "~: the slowest round took more than twice as long as the fastest. A request to a mount "
        "wakes its server, which takes several times longer on another, sleeping core; and ext4 "
        "creates files slowly where many were removed in the five minutes before."
    ]


def _failures(results: Results) -> list[str]:
    """Return one line for each reason, with all that it prevented."""
    rows: dict[tuple[str, str], list[str]] = {}
    for metric in results.shown():
        for target, sentences in results.failures.get(metric.name, {}).items():
            for sentence in dict.fromkeys(sentences):
                title = metric.heading(results.sizes)
                rows.setdefault((target, sentence), []).append(title)
    count = len(results.shown())
    return [
        f"{target} failed ({sentence}): {'everything' if len(t) == count else '; '.join(t)}."
        for (target, sentence), t in rows.items()
    ]


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose columns also line up as plain text."""
    names = 2 if header[1] == "unit" else 1
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if column < names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if column < names else "-" * (w - 1) + ":" for column, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])
