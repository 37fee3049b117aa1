"""The official test vectors, where this machine has them."""

import os
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get("OANIX_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors")
)


def vectors(name: str) -> Path:
    """Give the file of some vectors; a test that needs them is skipped where they are not."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {name} here; set OANIX_VECTORS to the folder that has it")
    return path
