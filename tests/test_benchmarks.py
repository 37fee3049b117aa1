"""The benchmark of relays is run as its users run it, with little to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.relay", *map(str, arguments)], cwd=TOP, check=False,
        capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip


@pytest.mark.slow
def test_two_relays_are_measured_in_one_run() -> None:
    found = run("--relays", "oanix,local-relay", "--stored", 1_500, "--rounds", 1, "--events", 100,
                "--asked", 3, "--json")  # fmt: skip
    assert found.returncode == 0, found.stderr
    ours, peer = json.loads(found.stdout)["1500"]
    assert (ours["relay"], peer["relay"], ours["notes"]) == ("oanix", "LocalRelay", [])
    for one in (ours, peer):
        assert one["figures"]["id, events"] == 1
        assert one["figures"]["kind 1, limit 100, events"] == 100
        assert min(one["figures"][name] for name in ("events/s", "deliveries/s", "MiB")) > 0
    assert "round 1 of 1" in found.stderr


@pytest.mark.slow
def test_a_command_line_that_cannot_be_meant_is_explained() -> None:
    for arguments, says in (
        (["--relays", "strfry"], "--relays: there are oanix, local-relay, nostr-relay"),
        (["--stored", "many"], "--stored: numbers of events"),
        (["--rounds", 0], "are 1 or more"),
    ):
        found = run(*arguments)
        assert found.returncode == 2
        assert says in found.stderr
    assert "examples:" in run("--help").stdout
