"""Run the real `oanix` for the tests of the command line."""

import os
import subprocess
import sys
from pathlib import Path

from attrs import field, frozen

TIME_OUT_S = 120


@frozen
class Oanix:
    """The command line with a state folder and a current directory of its own."""

    state: Path
    here: Path
    environment: dict[str, str] = field(factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the processes."""
        return {**os.environ, "OANIX_STATE": str(self.state), **self.environment}

    def __call__(
        self, *words: str | bytes | Path, stdin: bytes = b""
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words), input=stdin, capture_output=True, timeout=TIME_OUT_S,
            env=self.env, cwd=self.here, check=False,
        )  # fmt: skip

    def start(self, *words: str | Path) -> "subprocess.Popen[bytes]":
        """Start a command and go on."""
        return subprocess.Popen(
            self.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self.env, cwd=self.here,
        )  # fmt: skip

    def command(self, *words: str | bytes | Path) -> list[str | bytes | Path]:
        """Give the whole command."""
        return [sys.executable, "-m", "oanix", *words]

    def recipe(self, *lines: str) -> Path:
        """Write a recipe."""
        path = self.here / "recipe.ns"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path
