"""Secret: a row as a process knows it that has the key, or has not."""

import errno
import logging

from attrs import evolve, field, frozen

from oanix.errors import Denied, fault
from oanix.lib.url import Url
from oanix.lib.vault.forms import forms
from oanix.lib.vault.info import DAMAGED, EMPTY, LOCKED, UNBOUND, USABLE
from oanix.lib.vault.keys import DataKey
from oanix.lib.vault.names import check_name
from oanix.lib.vault.rows import Row
from oanix.lib.vault.rules import SecretRule

log = logging.getLogger(__name__)


@frozen(eq=False)
class Secret:
    """A row, what its rule says, and its value where that can be used."""

    row: Row
    rule: SecretRule | None
    state: str
    value: str = field(default="", repr=False)
    forms: frozenset[bytes] = field(default=frozenset(), repr=False)


def load(row: Row, key: DataKey | None, before: Secret | None) -> Secret:
    """Make a secret of its row; what was made of the same row before is used again."""
    same = before is not None and (before.row.sealed, before.row.rule) == (row.sealed, row.rule)
    if before is not None and same and before.state != LOCKED:
        return evolve(before, row=row)
    try:
        rule = SecretRule.parse(row.rule) if row.rule else None
        if key is None:
            return Secret(row, rule, LOCKED)
        text = opened(key, row)
    except OSError:
        log.warning("secret=%s was changed outside this program and is refused", row.name)
        return Secret(row, _rule_or_none(row.rule), DAMAGED)
    if not text:
        return Secret(row, rule, EMPTY)
    if rule is None:
        return Secret(row, None, UNBOUND, text, forms(text))
    return Secret(row, rule, USABLE, text, forms(text, *rule.template.around(text)))


def sealed(row: Row, key: DataKey, text: str) -> Row:
    """Give the row with a value, or none, that is bound to its name and its rule."""
    plain = b"\1" + text.encode() if text else b"\0"
    return evolve(row, sealed=key.seal(plain, "secret", row.name, row.rule))


def opened(key: DataKey, row: Row) -> str:
    """Decrypt the value of a row, empty when it has none. Raises OSError EIO for a changed row."""
    try:
        plain = key.open(row.sealed, "secret", row.name, row.rule)
    except OSError as error:
        raise _damaged(row) from error
    return plain[1:].decode()


def check_fit(rule: str, text: str) -> None:
    """Refuse a value that a rule cannot send. Raises OSError EINVAL."""
    if rule and text:
        SecretRule.parse(rule).template.check(text)


def is_name(name: str) -> bool:
    """Tell whether a stored name is one, and log it when it is none."""
    try:
        check_name(name)
    except OSError:
        log.warning("a secret's name was changed outside this program; it is left out")
        return False
    return True


def unusable(secret: Secret, method: str, url: Url) -> OSError:
    """Say why a request cannot carry a secret that belongs to it."""
    name = secret.row.name
    if secret.state == DAMAGED:
        return _damaged(secret.row)
    locked = secret.state == LOCKED
    why = "the vault is locked" if locked else "it has no value yet"
    remedy = "oanix secret unlock MOUNTPOINT" if locked else f"oanix secret set {name}"
    return Denied(
        f"the secret {name!r} belongs to this request, and {why}; do: {remedy}",
        what=f"{method} {url.masked()}",
        rule=f"secret {name}: {secret.row.rule}",
        remedy=remedy,
    )


def unlent(secret: Secret) -> OSError:
    """Say why a secret cannot be lent to what would use it."""
    name = secret.row.name
    if secret.state == DAMAGED:
        return _damaged(secret.row)
    if secret.state == LOCKED:
        return fault(
            errno.EACCES, f"the vault with {name!r} is locked; do: oanix secret unlock MOUNTPOINT"
        )
    if secret.state == EMPTY:
        return fault(errno.ENOENT, f"the secret {name!r} has no value yet")
    return fault(errno.EACCES, f"the secret {name!r} is bound to URLs and is used nowhere else")


def _damaged(row: Row) -> OSError:
    return fault(
        errno.EIO,
        f"the secret {row.name[:80]!r} or its rule was changed outside this program: set it again "
        "with its rule, or remove it",
    )


def _rule_or_none(text: str) -> SecretRule | None:
    try:
        return SecretRule.parse(text)
    except OSError:
        return None
