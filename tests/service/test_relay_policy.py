"""The rules of a relay: who may connect, write and read, how often, and with how much work."""

from pathlib import Path

import pytest
from attrs import define

from oanix.lib.nostr import Event, Filter, Invalid, LocalSigner, Template
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.services.relay.core import Core
from oanix.services.relay.policy import RelayPolicy
from oanix.services.relay.policy_lines import RULES_MAX, parse_line, parse_policy
from oanix.services.relay.rule_book import CLOSED, RuleBook

NOW = 1_700_000_000
ANN, BOB = (LocalSigner(bytes([n]) * 32, now=lambda: NOW) for n in (1, 2))
NPUB = nip19("npub", ANN.pubkey)


@define
class Guest:
    """Somebody who asks."""

    authed: frozenset[str] = frozenset()
    address: str = "192.0.2.7"


ANYBODY = Guest()


def note(text: str = "", by: LocalSigner = ANN, kind: int = 1) -> Event:
    return by.sign_now(Template(kind, text, (), NOW))


def said(policy: RelayPolicy, event: Event, guest: Guest = ANYBODY) -> str:
    refused = policy.writing(event, guest)
    return refused.message if refused is not None else ""


def test_without_rules_everything_is_allowed() -> None:
    policy = parse_policy("\n# a comment\n\n")
    assert not policy.hides
    assert said(policy, note()) == ""
    assert policy.connecting(ANYBODY) is None
    assert policy.asking([Filter()], ANYBODY) is None
    assert not policy.needs_auth()
    assert not policy.restricts("write")


def test_the_first_rule_that_matches_decides() -> None:
    policy = parse_policy(f"allow write author={NPUB}\ndeny write kind=1,4-6 -- no notes\n")
    assert said(policy, note()) == ""
    assert said(policy, note(by=BOB)) == "blocked: no notes"
    assert said(policy, note(by=BOB, kind=7)) == ""
    assert said(policy, note(by=BOB, kind=5)) == "blocked: no notes"
    assert policy.restricts("write")


def test_who_could_prove_a_key_is_asked_to_and_who_did_is_told_that_it_is_not_enough() -> None:
    policy = parse_policy(f"allow write auth={NPUB}\ndeny write -- members only")
    assert said(policy, note()) == "auth-required: members only"
    assert said(policy, note(), Guest(frozenset({BOB.pubkey}))) == "restricted: members only"
    assert said(policy, note(by=BOB), Guest(frozenset({ANN.pubkey}))) == ""
    own = parse_policy("allow write auth=author\ndeny write")
    assert said(own, note(), Guest(frozenset({ANN.pubkey}))) == ""
    assert said(own, note(by=BOB), Guest(frozenset({ANN.pubkey}))).startswith("restricted: ")
    anyone = parse_policy("allow any auth=any\ndeny any")
    assert anyone.needs_auth()
    assert said(anyone, note(by=BOB), Guest(frozenset({ANN.pubkey}))) == ""


def test_addresses_are_networks_or_local() -> None:
    policy = parse_policy("allow connect address=10.0.0.0/8,local\ndeny connect -- go away")
    assert policy.connecting(Guest(address="10.1.2.3")) is None
    assert policy.connecting(Guest(address="local")) is None
    assert policy.connecting(Guest(address="2001:db8::1")) == "go away"
    v6 = parse_policy("deny connect address=2001:db8::/32")
    assert v6.connecting(Guest(address="2001:db8::1"))
    assert v6.connecting(ANYBODY) is None


def test_a_question_of_which_nothing_may_be_seen_is_refused() -> None:
    policy = parse_policy(f"allow read kind=4 auth={NPUB}\ndeny read kind=4,1059 -- private")
    asked = [Filter.parse({"kinds": [4]})]
    assert policy.asking(asked, ANYBODY) == "auth-required: private"
    assert policy.asking(asked, Guest(frozenset({ANN.pubkey}))) is None
    assert policy.asking([Filter.parse({"kinds": [1059]})], ANYBODY) == "blocked: private"
    assert policy.asking([Filter.parse({"kinds": [1, 4]})], ANYBODY) is None
    assert policy.asking([Filter()], ANYBODY) is None
    own = parse_policy("allow read auth=author\ndeny read kind=4 -- your own")
    assert own.asking(asked, ANYBODY) == "auth-required: your own"
    assert own.asking(asked, Guest(frozenset({ANN.pubkey}))) is None
    assert own.asking([Filter()], ANYBODY) is None
    closed = parse_policy("deny read -- closed")
    assert closed.asking([Filter()], ANYBODY) == "blocked: closed"


def test_work_is_asked_for_where_the_rule_applies() -> None:
    policy = parse_policy("pow 250 kind=1")
    assert said(policy, note()).startswith("pow: difficulty ")
    assert said(policy, note(kind=7)) == ""
    assert policy.least_work == 0
    assert parse_policy("pow 20\npow 30 kind=1").least_work == 20


def test_many_banned_keys_are_one_rule() -> None:
    keys = [f"{n:064x}" for n in range(3000)]
    policy = parse_policy("".join(f"deny any author={key}\n" for key in keys))
    assert len(policy.rules) == 1
    assert not policy.may_read(1, keys[7], "", ANYBODY)
    assert policy.may_read(1, ANN.pubkey, "", ANYBODY)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("allow", "allow is followed by one of: write, read, any, connect"),
        ("permit write", "'permit' begins no rule; write one of: allow, deny, rate, pow"),
        ("deny write kind=x", "'x' is no kind; write 1, or 30000-39999"),
        ("deny write kind=65536", "'65536' is no kind; write 1, or 30000-39999"),
        ("deny write kind", "'kind' is no condition; write kind=1,7 or author=npub1…"),
        ("deny write colour=red", "'colour' is unknown; conditions are kind author"),
        ("deny connect kind=1", "connect has no other condition than address="),
        ("deny connect address=nowhere", "'nowhere' is no address"),
        ("rate write", "rate is followed by write or read, and by how often: rate write 10/s"),
        ("rate write 10/fortnight", "'10/fortnight' is no rate"),
        ("rate read 10/s by=author", "a rate of reading is by address or all"),
        ("rate write 10/s by=moon", "by= is one of: author, address, all"),
        ("pow many", "pow is followed by a number of bits, 0 to 256"),
        ("deny write author=npub1abc", ""),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_named_with_its_line(line: str, sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_policy(f"# first\n{line}\n")
    assert caught.value.reason.startswith(f"line 2: {sentence}")
    with pytest.raises(Invalid):
        parse_line(line)


def test_a_policy_has_a_bound() -> None:
    with pytest.raises(Invalid, match="at most"):
        parse_policy("pow 1\n" * (RULES_MAX + 1))


async def test_a_rate_is_kept_by_author_and_told(tmp_path: Path) -> None:
    core = Core.create(str(tmp_path / "events.db"), now=lambda: NOW)
    core.policy = parse_policy("rate write 2/min by=author kind=1\nrate read 1/min by=address")
    async with core.running():
        assert [(await core.submit(note(str(n)), ANYBODY)).ok for n in range(2)] == [True, True]
        third = await core.submit(note("3"), ANYBODY)
        assert not third.ok
        assert third.message.startswith("rate-limited: at most 2/min; wait ")
        assert (await core.submit(note("3", BOB), ANYBODY)).ok
        assert (await core.submit(note("3", kind=7), ANYBODY)).ok
        assert core.refused_question([Filter()], ANYBODY) is None
        assert str(core.refused_question([Filter()], ANYBODY)).startswith("rate-limited: ")
        assert core.refused_question([Filter()], Guest(address="192.0.2.8")) is None


async def test_what_may_not_be_read_is_neither_found_nor_counted_nor_told(tmp_path: Path) -> None:
    core = Core.create(str(tmp_path / "events.db"), now=lambda: NOW)
    core.policy = parse_policy(f"allow read auth=author\ndeny read author={NPUB} kind=1")
    mine, theirs, other = note("mine"), note("theirs", BOB), note("other", kind=7)
    heard: list[str] = []
    async with core.running():
        core.subscribe([Filter()], ANYBODY, lambda event, _: heard.append(event.id))
        for event in (mine, theirs, other):
            assert (await core.submit(event, ANYBODY)).ok
        everything = [Filter()]
        found, _ = await core.query(everything, ANYBODY)
        assert {Event.parse(raw).id for raw in found} == {theirs.id, other.id}
        assert await core.count(everything, ANYBODY) == 2
        assert await core.get(mine.id, ANYBODY) is None
        assert {name.hex() for _, name in await core.names(Filter(), ANYBODY, 9)} == {
            theirs.id, other.id,
        }  # fmt: skip
        author = Guest(frozenset({ANN.pubkey}))
        assert await core.get(mine.id, author) == mine.json()
        assert heard == [theirs.id, other.id]


def test_a_policy_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    kept: list[RelayPolicy] = []
    (tmp_path / "policy").write_text("allow everything\n")
    book = RuleBook(tmp_path, kept.append)
    assert book.text == CLOSED
    assert "line 1: allow is followed by" in book.warning
    assert kept[-1].connecting(ANYBODY)
    assert said(kept[-1], note())
    book.replace("pow 1\n")
    assert not book.warning
    assert (tmp_path / "policy").read_text() == "pow 1\n"
    assert (tmp_path / "policy.broken").read_text() == "allow everything\n"
