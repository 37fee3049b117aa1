"""For tests against programs of others that run in Node; `bin/setup` installs them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

FOLDER = Path(__file__).parent
INSTALLED = FOLDER / "node_modules" / ".setup"
"""What was installed: a copy of the lock by which it was."""

PATIENCE_S = 30

NODE = shutil.which("node") if INSTALLED.is_file() else None
REASON = "the packages for Node are not installed; bin/setup says why"

needs_node = pytest.mark.skipif(NODE is None, reason=REASON)


async def nostr_tools(scene: str, **given: object) -> dict[str, Any]:
    """Have nostr-tools do a scene, and give what it saw; a failure says what Node said."""
    assert NODE is not None
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process(
            [NODE, str(FOLDER / "nostr_tools.js"), scene], stdin=json.dumps(given).encode(),
            capture_stdout=True, capture_stderr=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    seen = json.loads(done.stdout)
    assert isinstance(seen, dict)
    return seen
