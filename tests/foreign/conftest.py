"""Count what was not run as what it speaks to is not installed."""

import pytest

from tests.foreign.node import NODE, REASON


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NODE is not None:
        return
    skipped = [
        report
        for report in terminalreporter.getreports("skipped")
        if isinstance(report, pytest.TestReport) and REASON in str(report.longrepr)
    ]
    terminalreporter.write_line(f"not run, as {REASON}: tests against nostr-tools: {len(skipped)}")
