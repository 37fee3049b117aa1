"""RuleBook: the owner's rules as text, in memory and in a file of the state folder."""

import logging
from pathlib import Path

from oanix.kit.rules import save_rules
from oanix.lib.policy import Policy, PolicyError, Rules
from oanix.lib.policy.rules import RULES_MAX, TEXT_MAX

log = logging.getLogger(__name__)

NAME = "policy"
DENY = "deny *\n"


class RuleBook:
    """Keeps the text and the policy the same.

    What cannot be read at the start denies everything: a broken file must not open the network.
    """

    lines_max = RULES_MAX
    text_max = TEXT_MAX

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
            save_rules(self._path, text, keep_broken=bool(self.warning))
        self._policy.replace(rules)
        self.text, self.warning = text, ""

    def add(self, line: str) -> None:
        """Add a line at the end. Raises as `replace`."""
        end = "" if self.text.endswith("\n") or not self.text else "\n"
        self.replace(f"{self.text}{end}{line}\n")

    def check(self, line: str, number: int) -> bool:
        """Tell whether a line is a rule, and no comment. Raises OSError EINVAL (PolicyError)."""
        try:
            return bool(Rules.parse(line).rules)
        except PolicyError as error:
            raise PolicyError(
                error.sentence, source=error.source, line=number, column=error.column
            ) from None
