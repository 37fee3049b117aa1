"""A secret that is lent: something is made of its value, and nobody sees it."""

import errno
from pathlib import Path

from tests.reach import refused
from tests.service.vaults import PHRASE, RULE, URL, VALUE, made, opened


def test_what_is_made_of_a_value_is_given_and_the_use_is_counted(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("nostr", VALUE)
    assert vault.lend("nostr", len) == len(VALUE)
    assert vault.info("nostr").uses == 1
    assert vault.mask_for(URL).text(f"it is {VALUE.decode()}") != f"it is {VALUE.decode()}"
    vault.close()


def test_a_secret_that_is_bound_missing_or_locked_is_not_lent(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("bound", VALUE, RULE)
    vault.new("empty")
    with refused(errno.EACCES, "bound to URLs"):
        vault.lend("bound", len)
    with refused(errno.ENOENT, "no value"):
        vault.lend("empty", len)
    with refused(errno.ENOENT):
        vault.lend("missing", len)
    vault.set("nostr", VALUE)
    vault.lock()
    with refused(errno.EACCES, "locked"):
        vault.lend("nostr", len)
    vault.close()


def test_a_maker_that_fails_is_no_use(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("nostr", VALUE)
    try:
        vault.lend("nostr", int)
    except ValueError:
        assert vault.info("nostr").uses == 0
    vault.close()
    again = opened(tmp_path)
    again.unlock(PHRASE)
    assert again.lend("nostr", bytes.decode) == VALUE.decode()
    again.close()
