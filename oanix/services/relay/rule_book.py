"""RuleBook: the owner's rules of a relay as text, in memory and in a file of its folder."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from oanix.errors import fault
from oanix.kit.rules import save_rules
from oanix.lib.nostr import Invalid
from oanix.services.relay.policy import RelayPolicy
from oanix.services.relay.policy_lines import RULES_MAX, TEXT_MAX, parse_line, parse_policy

log = logging.getLogger(__name__)

NAME: Final = "policy"
CLOSED: Final = "deny connect\ndeny any\n"


class RuleBook:
    """Keeps the text and the policy the same.

    What cannot be read at the start lets nobody in: a broken file must not open the relay. put:
    takes the policy that counts from now on.
    """

    lines_max = RULES_MAX
    text_max = TEXT_MAX

    def __init__(self, folder: Path | None, put: Callable[[RelayPolicy], None]) -> None:
        self._put = put
        self._path = None if folder is None else folder / NAME
        self.text = ""
        self.warning = ""
        if self._path is not None:
            self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            text = path.read_text("utf-8")
            self._put(parse_policy(text))
            self.text = text
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, Invalid) else str(error)
            self.warning = f"nobody is let in, as the policy cannot be read: {reason}"
            self.text = CLOSED
            self._put(parse_policy(CLOSED))
            log.warning("%s: %s", path, self.warning)

    def check(self, line: str, number: int) -> bool:
        """Tell whether a line is a rule, and no comment. Raises OSError EINVAL."""
        try:
            return parse_line(line, number) is not None
        except Invalid as error:
            raise fault(errno.EINVAL, error.reason) from None

    def add(self, line: str) -> None:
        """Add a line at the end. Raises OSError as `replace`."""
        end = "" if self.text.endswith("\n") or not self.text else "\n"
        self.replace(f"{self.text}{end}{line}\n")

    def first(self, line: str) -> None:
        """Add a line before all others, where no other can decide before it."""
        self.replace(f"{line}\n{self.text}")

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Take lines away. Raises OSError as `replace`."""
        lines = self.text.splitlines()
        kept = [line for line in lines if not unwanted(line)]
        if kept != lines:
            self.replace("".join(f"{line}\n" for line in kept))

    def replace(self, text: str) -> None:
        """Put other rules in place of these, durably first.

        Raises OSError: EINVAL for a line that is no rule, and what the disk fails with; then the
        old rules stay. It syncs in place: an owner changes rules seldom, and nobody may act under
        rules that a crash takes back.
        """
        try:
            policy = parse_policy(text)
        except Invalid as error:
            raise fault(errno.EINVAL, error.reason) from None
        if self._path is not None:
            save_rules(self._path, text, keep_broken=bool(self.warning))
        self._put(policy)
        self.text, self.warning = text, ""
