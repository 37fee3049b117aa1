"""RuleBook: the owner's rules as text, in memory and in a file of the state folder."""

import logging
import os
from pathlib import Path

from oanix.lib.policy import Policy, PolicyError, Rules

log = logging.getLogger(__name__)

NAME = "policy"
DENY = "deny *\n"

OURS = "#: "
"""Begins the lines that reading the policy adds: they are not part of it."""


class RuleBook:
    """Keeps the text and the policy the same.

    What cannot be read at the start denies everything: a broken file must not open the network.
    """

    def __init__(self, policy: Policy, folder: Path | None) -> None:
        self._policy = policy
        self._path = None if folder is None else folder / NAME
        self.text = policy.base.rules.format()
        self.warning = ""
        if self._path is not None:
            self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            text = path.read_text("utf-8")
            self._policy.replace(Rules.parse(text, str(path)))
            self.text = text
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            self.warning = f"everything is denied, as the policy cannot be read: {reason}"
            self.text = DENY
            self._policy.replace(Rules.parse(DENY))
            log.warning("%s: %s", path, self.warning)

    def replace(self, text: str) -> None:
        """Put other rules in place of these, durably first.

        Raises OSError: EINVAL for a line that is no rule, and what the disk fails with; then the
        old rules stay. It syncs in place: an owner changes rules seldom, and others must not ask
        under rules that a crash takes back.
        """
        rules = Rules.parse(text)
        if self._path is not None:
            self._save(self._path, text)
        self._policy.replace(rules)
        self.text, self.warning = text, ""

    def add(self, line: str) -> None:
        """Add a line at the end. Raises as `replace`."""
        end = "" if self.text.endswith("\n") or not self.text else "\n"
        self.replace(f"{self.text}{end}{line}\n")

    def _save(self, path: Path, text: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{NAME}.new")
        with open(fresh, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if self.warning and path.exists():
            # What could not be read was written by somebody, who may want to mend it.
            kept = path.with_name(f"{NAME}.broken")
            kept.unlink(missing_ok=True)
            os.link(path, kept)
        os.replace(fresh, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_line(line: str, number: int) -> bool:
    """Tell whether a line is a rule, and no comment. Raises OSError EINVAL (PolicyError)."""
    try:
        return bool(Rules.parse(line).rules)
    except PolicyError as error:
        raise PolicyError(
            error.sentence, source=error.source, line=number, column=error.column
        ) from None
