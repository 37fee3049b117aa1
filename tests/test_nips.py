"""The checklist of NIPs: its tests exist, and it has every NIP that the relay says it supports."""

import re
from pathlib import Path

import pytest

from oanix.services.relay.info import NIPS

ROOT = Path(__file__).parent
TEXT = (ROOT.parent / "docs" / "nips.md").read_text("utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_named_test_exists(file: str, test: str) -> None:
    assert re.search(rf"def {test}\(", (ROOT / file).read_text("utf-8"))


def test_every_line_names_a_test() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    lines = [line for line in lines if line != "| what | test |"]
    assert len(lines) == len(NAMED) > 40


def test_every_nip_of_the_relay_is_in_the_list() -> None:
    titles = " ".join(line for line in TEXT.splitlines() if line.startswith("## "))
    listed = set(map(int, re.findall(r"NIP-(\d+)", titles)))
    assert set(NIPS) <= listed
