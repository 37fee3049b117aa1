"""Vault: values are attached where their rules say, masked in answers, and never given out."""

import errno
import hashlib
import hmac
import logging
from pathlib import Path

import apsw
import pytest

from oanix.errors import Denied
from oanix.lib.url import Url
from oanix.lib.vault import FILE, Passphrase, RingKey, SecretRule, Vault
from tests.reach import refused
from tests.service.vaults import CHEAP, PHRASE, RULE, URL, VALUE, Ring, made, opened, sent

QUERY = SecretRule.parse("* https://api.example.com/** query key={}")


def edit(folder: Path, sql: str, *values: object) -> None:
    """Change the database as somebody else would."""
    with apsw.Connection(str(folder / FILE)) as connection:
        connection.execute(sql, values)  # type: ignore[arg-type]
    connection.close()


def test_a_file_that_does_not_exist_holds_no_secrets_and_is_not_made(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    assert vault.list() == []
    assert vault.kept() is None
    assert not vault.unlocked
    assert vault.attach("GET", URL, ()).used == ()
    assert not vault.mask_for(URL).active
    for act in (
        lambda: vault.unlock(PHRASE),
        lambda: vault.set("a", VALUE, RULE),
        lambda: vault.authenticator("x"),
    ):
        with refused(errno.ENOENT, "no vault yet"):
            act()
    vault.close()
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_attached_over_what_the_guest_sent(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    attached = vault.attach(
        "GET", URL, (("AUTHORIZATION", "mine"), ("Range", "bytes=0-3"), ("If-Range", "x"))
    )
    assert attached.headers == (("Authorization", f"Bearer {VALUE.decode()}"),)
    assert attached.url == URL
    assert attached.used == ("github",)
    assert VALUE.decode() not in repr(attached)


def test_a_request_that_no_rule_matches_stays_as_it_is(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    headers = (("authorization", "mine"), ("Range", "bytes=0-3"))
    for method, url in (
        ("DELETE", "https://api.example.com/"),
        ("GET", "https://example.com/"),
        ("GET", "http://api.example.com/"),
    ):
        attached = vault.attach(method, Url.parse(url), headers)
        assert (attached.headers, attached.used) == (headers, ())


def test_the_longer_pattern_wins_then_the_name(tmp_path: Path) -> None:
    vault = made(tmp_path)
    rule = "GET https://{} header authorization: {{}}"
    vault.set("z-wide", b"wide", SecretRule.parse(rule.format("*.example.com/**")))
    vault.set("b-host", b"host", SecretRule.parse(rule.format("api.example.com/**")))
    vault.set("a-path", b"path", SecretRule.parse(rule.format("api.example.com/repos")))
    vault.set("c-path", b"pat2", SecretRule.parse(rule.format("api.example.com/repos")))
    vault.set("query", b"in-query", QUERY)
    attached = vault.attach("GET", URL, ())
    assert attached.headers == (("authorization", "path"),)
    assert attached.url.query == "page=2&key=in-query"
    assert sorted(attached.used) == ["a-path", "query"]
    other = vault.attach("GET", Url.parse("https://x.example.com/"), ())
    assert other.headers == (("authorization", "wide"),)


def test_uses_are_counted_at_once_and_stored_later(tmp_path: Path) -> None:
    now = [10**18]
    vault = made(tmp_path, now=lambda: now[0])
    vault.set("github", VALUE, RULE)
    now[0] += 5
    sent(vault)
    sent(vault)
    assert (vault.info("github").uses, vault.info("github").last_used) == (2, 10**18 + 5)
    assert opened(tmp_path).info("github").uses == 0
    vault.flush()
    assert opened(tmp_path).info("github").uses == 2
    now[0] += 31 * 10**9
    sent(vault)
    assert opened(tmp_path).info("github").uses == 3
    sent(vault)
    vault.close()
    info = opened(tmp_path).info("github")
    assert (info.uses, info.last_used, info.created) == (4, now[0], 10**18)


def test_a_clock_that_goes_back_loses_no_use(tmp_path: Path) -> None:
    now = [10**18]
    vault = made(tmp_path, now=lambda: now[0])
    vault.set("github", VALUE, RULE)
    sent(vault)
    now[0] -= 86_400 * 10**9
    sent(vault)
    assert opened(tmp_path).info("github").uses == 2
    assert vault.info("github").last_used == 10**18


def test_what_one_process_sets_another_uses_at_once(tmp_path: Path) -> None:
    one, two = made(tmp_path), opened(tmp_path)
    two.unlock(PHRASE)
    one.set("github", VALUE, RULE)
    assert sent(two) == f"Bearer {VALUE.decode()}"
    one.rotate("github", b"another value")
    assert sent(two) == "Bearer another value"
    two.rule("github", QUERY)
    assert sent(one) == ""
    one.remove("github")
    assert two.list() == []


def test_a_vault_that_another_process_makes_is_found_and_locked(tmp_path: Path) -> None:
    server = opened(tmp_path)
    assert sent(server) == ""
    made(tmp_path).set("github", VALUE, RULE)
    with refused(errno.EACCES, "locked"):
        sent(server)
    server.unlock(PHRASE)
    assert sent(server)


def test_a_locked_vault_refuses_what_a_rule_matches_and_lets_the_rest_go(tmp_path: Path) -> None:
    made(tmp_path).set("github", VALUE, RULE)
    vault = opened(tmp_path)
    with pytest.raises(Denied) as caught:
        vault.attach("GET", Url.parse("https://api.example.com/?q=private"), ())
    assert caught.value.rule == f"secret github: {RULE.format()}"
    assert caught.value.remedy == "oanix secret unlock MOUNTPOINT"
    assert "private" not in caught.value.what
    assert vault.attach("GET", Url.parse("https://else.example.com/"), ()).used == ()
    assert [info.state for info in vault.list()] == ["locked"]
    for act in (
        lambda: vault.set("github", VALUE, RULE),
        lambda: vault.rotate("github", VALUE),
        lambda: vault.rule("github", RULE),
        lambda: vault.new("other"),
        lambda: vault.authenticator("journal"),
        lambda: vault.protect(PHRASE),
    ):
        with refused(errno.EACCES, "locked"):
            act()
    vault.remove("github")
    assert vault.list() == []


def test_locking_forgets_the_values(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    sent(vault)
    vault.lock()
    assert vault.info("github").state == "locked"
    with refused(errno.EACCES):
        sent(vault)
    assert vault.mask_for(URL).data(VALUE) == b"*" * len(VALUE)
    vault.unlock(PHRASE)
    assert sent(vault)


def test_a_wrong_passphrase_does_not_unlock(tmp_path: Path) -> None:
    made(tmp_path)
    vault = opened(tmp_path)
    with refused(errno.EACCES, "not the passphrase"):
        vault.unlock(Passphrase("a wrong one", CHEAP))
    assert not vault.unlocked


def test_an_empty_secret_is_of_no_use_until_it_is_set(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.new("github")
    assert vault.info("github").state == "empty"
    assert sent(vault) == ""
    with refused(errno.EEXIST):
        vault.new("github")
    with refused(errno.ENOENT, "no value yet"):
        vault.rotate("github", VALUE)
    vault.rule("github", RULE)
    with refused(errno.EACCES, "no value yet; do: oanix secret set github"):
        sent(vault)
    vault.set("github", VALUE)
    assert vault.info("github").state == "usable"
    assert sent(vault)


def test_a_value_without_a_rule_goes_nowhere(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE)
    assert vault.info("github").state == "unbound"
    assert sent(vault) == ""
    assert not vault.mask_for(URL).active


def test_a_value_that_its_rule_cannot_carry_is_refused_both_ways(tmp_path: Path) -> None:
    vault = made(tmp_path)
    with refused(errno.EINVAL, "not ASCII"):
        vault.set("a", "schlüssel".encode(), RULE)
    assert vault.list() == []
    vault.set("a", "schlüssel".encode(), QUERY)
    with refused(errno.EINVAL, "not ASCII"):
        vault.rule("a", RULE)
    assert sent(vault) == ""
    with refused(errno.ENOENT):
        vault.rule("b", RULE)
    with refused(errno.ENOENT):
        vault.remove("b")
    with refused(errno.ENOENT):
        vault.info("b")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE secret SET rule = replace(rule, 'GET,POST', '*') WHERE name = 'github'",
        "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'other') "
        "WHERE name = 'github'",
        "UPDATE secret SET sealed = zeroblob(40) WHERE name = 'github'",
        "UPDATE secret SET sealed = x'' WHERE name = 'github'",
        "UPDATE secret SET name = 'y' WHERE name = 'x'; UPDATE secret SET name = 'x' "
        "WHERE name = 'github'; UPDATE secret SET name = 'github' WHERE name = 'y'",
    ],
)
def test_a_row_that_was_edited_is_found_and_refused(
    tmp_path: Path, sql: str, caplog: pytest.LogCaptureFixture
) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    name = "other" if "other" in sql else "x"
    vault.set(name, b"the other value", SecretRule.parse("* https://other.example.com basic u"))
    assert sent(vault)
    edit(tmp_path, sql)
    with refused(errno.EIO, "changed outside this program"):
        vault.attach("GET", URL, ())
    assert vault.info("github").state == "damaged"
    for act in (lambda: vault.set("github", VALUE), lambda: vault.rule("github", RULE)):
        with refused(errno.EIO, "changed outside"):
            act()
    assert "secret=github was changed" in caplog.text
    caplog.clear()
    vault.set("github", VALUE, RULE)
    assert vault.info("github").state == "usable"


def test_an_edited_rule_for_another_host_gets_nothing(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    edit(tmp_path, "UPDATE secret SET rule = replace(rule, 'api.example.com', 'evil.example')")
    with refused(errno.EIO):
        vault.attach("GET", Url.parse("https://evil.example/"), ())
    assert sent(vault) == ""


@pytest.mark.parametrize("rule", ["", "nonsense", "GET * header A: {}"])
def test_a_rule_that_was_edited_to_none_is_damaged(tmp_path: Path, rule: str) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    edit(tmp_path, "UPDATE secret SET rule = ?", rule)
    assert vault.info("github").state == "damaged"
    assert sent(vault) == ""


def test_a_name_that_is_none_is_left_out(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    edit(tmp_path, "UPDATE secret SET name = '../../etc/passwd'")
    assert vault.names() == []
    edit(tmp_path, "UPDATE secret SET name = CAST(x'ff' AS TEXT)")
    with refused(errno.EIO, "changed outside"):
        vault.names()


def test_a_wrapped_key_that_was_edited_does_not_unlock(tmp_path: Path) -> None:
    made(tmp_path)
    edit(tmp_path, "UPDATE vault SET n = 32")
    with refused(errno.EACCES):
        opened(tmp_path).unlock(PHRASE)


def test_an_answer_is_masked_for_the_hosts_that_a_secret_is_bound_to(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    mask = vault.mask_for(Url.parse("http://api.example.com:99/any"))
    assert mask.active
    assert mask is vault.mask_for(Url.parse("http://api.example.com:99/other"))
    assert mask.data(b"<" + VALUE + b">") == b"<" + b"*" * len(VALUE) + b">"
    assert not vault.mask_for(Url.parse("https://example.com/")).active


def test_what_was_used_is_masked_everywhere_also_after_a_rotation(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    elsewhere = Url.parse("https://elsewhere.example/")
    sent(vault)
    vault.rotate("github", b"the next value")
    mask = vault.mask_for(elsewhere)
    assert mask.data(VALUE) == b"*" * len(VALUE)
    assert mask.data(b"the next value") == b"the next value"
    sent(vault)
    assert vault.mask_for(elsewhere).data(b"the next value") == b"*" * 14
    vault.remove("github")
    assert vault.mask_for(elsewhere).data(VALUE) == b"*" * len(VALUE)


def test_basic_auth_is_masked_in_its_own_form(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("wiki", b"pass/word?", SecretRule.parse("* https://api.example.com basic robot"))
    coded = sent(vault).removeprefix("Basic ")
    assert vault.mask_for(URL).text(f"got {coded}") == "got " + "*" * len(coded)


def test_the_keyring_keeps_a_vault_by_one_item(tmp_path: Path) -> None:
    ring = Ring()
    vault = opened(tmp_path)
    vault.protect(RingKey(ring))
    vault.set("github", VALUE, RULE)
    assert len(ring.items) == 1
    again = opened(tmp_path)
    again.unlock(RingKey(ring))
    assert sent(again)
    again.protect(RingKey(ring), RingKey(ring))
    assert len(ring.items) == 1
    again.protect(PHRASE, RingKey(ring))
    assert ring.items == {}
    last = opened(tmp_path)
    last.unlock(PHRASE)
    assert sent(last) == sent(again) == sent(vault)


def test_the_old_passphrase_is_of_no_use_after_a_change(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    vault.protect(Passphrase("battery staple", CHEAP), PHRASE)
    other = opened(tmp_path)
    with refused(errno.EACCES):
        other.unlock(PHRASE)
    other.unlock(Passphrase("battery staple", CHEAP))
    assert sent(other)


def test_of_two_that_make_a_vault_one_is_told_and_leaves_no_item(tmp_path: Path) -> None:
    ring = Ring()
    first = opened(tmp_path)

    class Slow(RingKey):
        def wrap(self, key: object, vault: str) -> object:  # type: ignore[override]
            kept = super().wrap(key, vault)  # type: ignore[arg-type]
            first.protect(PHRASE)
            return kept

    second = opened(tmp_path)
    with refused(errno.EBUSY, "another process"):
        second.protect(Slow(ring))
    assert ring.items == {}
    assert not second.unlocked


def test_an_authenticator_is_the_same_for_every_process_and_each_label(tmp_path: Path) -> None:
    one, two = made(tmp_path), opened(tmp_path)
    two.unlock(PHRASE)
    tag = one.authenticator("journal")(b"head")
    assert two.authenticator("journal")(b"head") == tag
    assert one.authenticator("other")(b"head") != tag
    one.protect(Passphrase("battery staple", CHEAP))
    assert one.authenticator("journal")(b"head") == tag
    assert len(tag) == hashlib.sha256().digest_size
    assert hmac.compare_digest(tag, one.authenticator("journal")(b"head"))


def test_no_file_and_no_repr_holds_a_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    vault = made(tmp_path)
    vault.set("github", VALUE, RULE)
    sent(vault)
    vault.flush()
    told = repr(vault) + repr(vars(vault)) + repr(vault.list()) + caplog.text
    assert VALUE.decode() not in told
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        assert VALUE not in data
        assert b"correct horse" not in data
        assert file.stat().st_mode & 0o777 == 0o600


def test_two_vaults_of_one_value_have_nothing_in_common(tmp_path: Path) -> None:
    found = []
    for name in "ab":
        (tmp_path / name).mkdir()
        vault: Vault = made(tmp_path / name)
        vault.set("github", VALUE, RULE)
        found.append(vault._rows.all()["github"].sealed)
    assert found[0][:12] != found[1][:12]
    assert found[0][12:] != found[1][12:]


def test_all_values_that_are_known_are_masked_replaced_ones_that_were_used_too(
    tmp_path: Path,
) -> None:
    vault = made(tmp_path)
    vault.set("unbound", b"value-of-unbound")
    vault.set("bound", VALUE, RULE)
    text = f"value-of-unbound and {VALUE.decode()} and value-of-another"
    assert vault.mask_all().text(text) == f"{'*' * 16} and {'*' * len(VALUE)} and value-of-another"
    sent(vault)
    vault.rotate("bound", b"value-of-another")
    vault.remove("unbound")
    shown = vault.mask_all().text(text)
    assert shown == f"value-of-unbound and {'*' * len(VALUE)} and {'*' * 16}"
    vault.lock()
    assert VALUE.decode() not in vault.mask_all().text(text)
    assert "value-of-another" in vault.mask_all().text(text)
    vault.close()
