"""Rules as text: what is read back, what is refused and where, what is counted."""

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.policy import Buckets, PolicyError, Rate, Rules
from oanix.lib.policy.glob import Glob
from oanix.lib.policy.paths import decoded, resolved
from oanix.lib.policy.rules import LINE_MAX, RULES_MAX, TEXT_MAX
from tests.unit.policies import texts


@pytest.mark.slow
@given(texts())
def test_rules_are_read_back_as_they_were_written(text: str) -> None:
    rules = Rules.parse(text)
    assert Rules.parse(rules.format()) == rules
    assert Rules.parse(rules.format()).format() == rules.format()


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("allow\t*  *  # all", "allow *"),
        ("  deny post,GET https://A.example./x", "deny GET,POST https://a.example/x"),
        ("allow http://127.1:80", "allow http://127.0.0.1:80/**"),
        ("allow http://[0::1]:*/ü", "allow http://[::1]:*/%C3%BC"),
        ("allow *://*:*/**", "allow *"),
        ("allow * size=2048K time=1500ms rate=60/min", "allow * rate=60/min size=2M time=1.5s"),
        ("allow * size=1025 time=2h", "allow * size=1025 time=7200s"),
        (
            "allow * addresses=fd00::/8,10.1.2.3,10.0.0.0/8,10.1.2.3",
            "allow * addresses=10.0.0.0/8,10.1.2.3/32,fd00::/8",
        ),
        ("allow https://h/a=b;c&d'!", "allow https://h/a=b;c&d'!"),
    ],
)
def test_a_rule_has_one_way_to_be_written(line: str, written: str) -> None:
    assert Rules.parse(line).format() == f"{written}\n"


def test_lines_are_counted_with_comments_and_empty_ones() -> None:
    rules = Rules.parse("\n# deny *\nallow *\n\n\tdeny * #x")
    assert [rule.line for rule in rules.rules] == [3, 5]
    assert Rules.parse("").rules == ()


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        ("permit *", "1:1", "allow nor deny"),
        ("Allow *", "1:1", "allow nor deny"),
        ("\n\nallow", "3:6", "write: allow *"),
        ("deny # all", "1:5", "write: deny *"),
        ("allow GET", "1:10", "write: allow GET *"),
        ("allow GET,HEAD rate=1/s", "1:15", "write: allow GET,HEAD *"),
        ("allow GET * x", "1:13", "one word too many"),
        ("allow rate=1/s *", "1:16", "follows an option"),
        ("allow G@T *", "1:7", "write as GET,HEAD"),
        ("allow GET,,HEAD *", "1:7", "write as GET,HEAD"),
        ("allow example.com/x", "1:7", "https://example.com/x"),
        ("allow GET ftp://h", "1:11", "http, https, ws, wss"),
        ("allow https://", "1:7", "SCHEME://HOST"),
        ("allow https:///x", "1:7", "SCHEME://HOST"),
        ("allow https://a*b/x", "1:15", "*.example.com"),
        ("allow https://a.*/x", "1:15", "*.example.com"),
        ("allow https://**", "1:15", "*.example.com"),
        ("allow https://*.127.0.0.1", "1:15", "write 127.0.0.1"),
        ("allow https://*.[::1]", "1:15", "write ::1"),
        ("allow https://a..b", "1:15", "labels"),
        ("allow https://me@h/", "1:15", "leave out"),
        ("allow https://me:x@h/", "1:18", "no port"),
        ("allow https://10.0.0.0/8", "1:15", "https://* addresses=10.0.0.0/8"),
        ("allow https://h:0", "1:17", "1 to 65535"),
        ("allow https://h:65536", "1:17", "1 to 65535"),
        ("allow https://h:٣", "1:17", "1 to 65535"),
        ("allow https://h:/x", "1:17", "1 to 65535"),
        ("allow https://h/a?b=c", "1:18", "leave out the ?"),
        ("allow https://h/a#b", "1:18", "leave out the #"),
        ("allow https://h/a\\b", "1:18", "write /"),
        ("allow https://h/***", "1:17", "write **"),
        ("allow https://h/a/../b", "1:16", "segment '..'"),
        ("allow https://h/a/%2e./b", "1:16", "segment '..'"),
        ("allow https://h/a%252f..;x/b", "1:16", "segment '..;x'"),
        ("allow https://h/%2A", "1:16", "write *"),
        ("allow https://h?x", "1:16", "leave out the ?"),
        (f"allow https://h/{'a' * 5000}", "1:4103", "at most 4096"),
        ("allow * speed=1", "1:9", "rate, size, time, addresses"),
        ("allow * rate=1/s rate=2/s", "1:18", "write it once"),
        ("allow * rate=", "1:14", "write 10/s"),
        ("allow * rate=0/s", "1:14", "write 10/s"),
        ("allow * rate=1/m", "1:14", "1000/h"),
        ("allow * rate=99999999999/s", "1:14", "write 10/s"),
        ("allow * size=0", "1:14", "write 4096"),
        ("allow * size=10MB", "1:14", "write 4096"),
        ("allow * size=-1", "1:14", "write 4096"),
        ("allow * size=9999999999999999999T", "1:14", "write 4096"),
        ("allow * time=0s", "1:14", "write 500ms"),
        ("allow * time=30", "1:14", "write 500ms"),
        ("allow * time=169h", "1:14", "168h"),
        ("allow * time=nans", "1:14", "write 500ms"),
        ("allow * addresses=10.0.0.1/8", "1:19", "write 10.0.0.0/8"),
        ("allow * addresses=10.0.0.0/8,x", "1:19", "write one as"),
        ("allow * addresses=8.8.8.8", "1:19", "leave it out"),
        ("deny * size=1M", "1:8", "leave it out"),
        ("\ufeffallow *", "1:1", "byte order mark"),
        ("allow *\r\n", "1:8", "LF alone"),
        ("allow *\0", "1:8", "U+0000"),
        ("allow *\x1b[2J", "1:8", "U+001B"),
        ("allow *\udcff", "1:8", "no UTF-8"),
        ("#" * (LINE_MAX + 1), f"1:{LINE_MAX + 1}", f"{LINE_MAX}"),
        ("allow *\n" * (RULES_MAX + 1), f"{RULES_MAX + 1}:1", f"{RULES_MAX} rules"),
        ("#\n" * TEXT_MAX, "1:1", f"{TEXT_MAX} characters"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_line_that_is_no_rule_is_told_with_its_place_and_what_to_write(
    text: str, place: str, advice: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        Rules.parse(text, "team")
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value.strerror).startswith(f"team:{place}: ")
    assert advice in caught.value.sentence
    assert len(caught.value.sentence) < 400


@given(st.text(max_size=60))
def test_any_text_is_rules_or_an_error(text: str) -> None:
    for line in (text, f"allow {text}", f"allow https://{text}", f"allow https://h/{text}"):
        try:
            rules = Rules.parse(line)
        except PolicyError:
            continue
        assert Rules.parse(rules.format()) == rules


def test_the_examples_of_the_manual_are_rules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "man" / "policy.md").read_text()
    _, examples = page.split("## EXAMPLES")
    assert len(Rules.parse(examples.split("```")[1]).rules) == 7


@pytest.mark.slow
def test_ten_thousand_rules_are_rules() -> None:
    assert len(Rules.parse("allow https://h/**\n" * RULES_MAX).rules) == RULES_MAX


def _as_regex(glob: str) -> str:
    words = {"**": ".*", "*": "[^/]*"}
    parts = (words.get(part) or re.escape(part) for part in re.findall(r"\*\*|\*|[^*]", glob))
    return "".join(parts)


@given(
    st.text("ab/*", max_size=9).filter(lambda text: "***" not in text), st.text("ab/", max_size=12)
)
def test_a_glob_matches_what_a_regular_expression_does(glob: str, path: str) -> None:
    expected = re.fullmatch(_as_regex(f"/{glob}"), f"/{path}", re.DOTALL) is not None
    assert Glob(f"/{glob}").matches(f"/{path}") == expected


@given(st.text("%25eE2fF/.;\\uc0aAx", max_size=40))
def test_decoding_leaves_nothing_to_decode(path: str) -> None:
    assert decoded(decoded(path)) == decoded(path)
    assert not re.search("%[0-9A-Fa-f]{2}", decoded(path))


@given(st.text("ab./\\; ", max_size=30))
def test_resolving_leaves_nothing_to_resolve(path: str) -> None:
    found = resolved(f"/{path}")
    assert resolved(found) == found
    assert found.startswith("/")
    assert "//" not in found
    assert not {".", ".."}.intersection(found.split("/"))


# Rates -------------------------------------------------------------------------------------------


class Clock:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_as_many_as_a_rate_says_may_come_at_once_and_the_next_wait_their_turn() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    key = [("a", Rate(2, "min"))]
    assert [buckets.take(key) for _ in range(4)] == [0, 0, 30, 60]
    clock.now += 60
    assert buckets.take(key) == pytest.approx(30)
    clock.now += 1000
    assert [buckets.take(key) for _ in range(3)] == [0, 0, 30]


def test_who_would_wait_too_long_takes_nothing() -> None:
    buckets = Buckets(clock=Clock())
    key = [("a", Rate(1, "h"))]
    assert buckets.take(key) == 0
    assert [buckets.take(key, patience_s=10) for _ in range(3)] == [3600] * 3
    assert buckets.take(key) == 3600


def test_keys_are_counted_apart_and_the_longest_wait_counts() -> None:
    buckets = Buckets(clock=Clock())
    slow, fast = ("slow", Rate(1, "h")), ("fast", Rate(1, "s"))
    assert buckets.take([slow]) == 0
    assert buckets.take([fast]) == 0
    assert buckets.take([slow, fast]) == 3600
    assert buckets.take([]) == 0


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=60))
def test_no_more_than_the_rate_come_in_any_window(count: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    sent = []
    for pause in pauses:
        clock.now += pause
        sent.append(clock.now + buckets.take([("a", Rate(count))]))
    for begin in sent:
        # A full bucket and what comes to it within the window.
        assert sum(begin <= at < begin + 1 - 1e-6 for at in sent) <= 2 * count


def test_buckets_that_are_full_are_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    for number in range(20_000):
        clock.now += 1
        buckets.take([(number, Rate(1))])
    assert len(buckets) < 5_000
