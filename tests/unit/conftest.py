"""What the tests of the command line share."""

from pathlib import Path

import pytest

from tests.commands import Oanix


@pytest.fixture
def oanix(tmp_path: Path) -> Oanix:
    """The command line, with a directory that has something in it."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "hello.txt").write_text("hello\n")
    (here / "folder").mkdir()
    return Oanix(tmp_path / "state", here)
