"""Rules of secrets: what may be bound to what, and how a value is put into a request."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.url import Url
from oanix.lib.vault import SecretRule, Template
from oanix.lib.vault.names import check_name, check_value
from oanix.lib.vault.rules import destination
from tests.reach import refused

BEARER = "header Authorization: Bearer {}"


def matches(rule: str, method: str, url: str) -> bool:
    return SecretRule.parse(rule).matches(method, destination(Url.parse(url)))


@pytest.mark.parametrize(
    ("rule", "method", "url", "answer"),
    [
        (f"GET https://h.example/** {BEARER}", "GET", "https://h.example/a", True),
        (f"GET h.example/** {BEARER}", "GET", "https://h.example/a", True),
        (f"GET h.example {BEARER}", "GET", "https://h.example/a/b", True),
        (f"GET h.example {BEARER}", "GET", "http://h.example/a", False),
        (f"GET http://h.example {BEARER}", "GET", "http://h.example/a", True),
        (f"GET http://h.example {BEARER}", "GET", "https://h.example/a", False),
        (f"get,post h.example {BEARER}", "POST", "https://h.example/", True),
        (f"GET h.example {BEARER}", "POST", "https://h.example/", False),
        (f"* h.example {BEARER}", "DELETE", "https://h.example/", True),
        (f"* *.h.example {BEARER}", "GET", "https://a.b.h.example/", True),
        (f"* *.h.example {BEARER}", "GET", "https://evilh.example/", False),
        (f"* h.example {BEARER}", "GET", "https://h.example.evil.example/", False),
        (f"* h.example {BEARER}", "GET", "https://h.example:8443/", False),
        (f"* h.example:8443 {BEARER}", "GET", "https://h.example:8443/", True),
        (f"* h.example {BEARER}", "GET", "https://H.EXAMPLE./", True),
        (f"* h.example/a/** {BEARER}", "GET", "https://h.example/a/%2e%2e/b", False),
        (f"* h.example/a/** {BEARER}", "GET", "https://h.example/a/..%2fb", False),
        (f"* h.example/a/** {BEARER}", "GET", "https://h.example/a/x", True),
        (f"* h.example {BEARER}", "GET", "wss://h.example/", True),
        (f"* h.example {BEARER}", "GET", "ws://h.example/", False),
        (f"* wss://h.example {BEARER}", "GET", "wss://h.example/", True),
        (f"* http://h.example {BEARER}", "GET", "ws://h.example/", True),
    ],
)
def test_a_rule_matches_what_it_says(rule: str, method: str, url: str, answer: bool) -> None:
    assert matches(rule, method, url) is answer


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("", "written as METHODS URL TEMPLATE"),
        ("GET https://h.example", "written as METHODS URL TEMPLATE"),
        (f"GET * {BEARER}", "never to every one"),
        (f"GET https://*/** {BEARER}", "never to every one"),
        (f"GET *://h.example {BEARER}", "one scheme"),
        (f"GET https://*.com {BEARER}", "too wide"),
        (f"GET https://*.com. {BEARER}", "too wide"),
        (f"GET ftp://h.example {BEARER}", "scheme"),
        (f"GET https://h.example/?a=1 {BEARER}", "query"),
        (f"GET https://a@h.example {BEARER}", "user and password"),
        (f"G(T h.example {BEARER}", "no list of methods"),
        (f"GET,,POST h.example {BEARER}", "no list of methods"),
        ("GET h.example header Authorization: Bearer", "exactly once"),
        ("GET h.example header A: {} {}", "exactly once"),
        ("GET h.example header A {}", "NAME: TEXT"),
        ("GET h.example header {}: x", "NAME: TEXT"),
        ("GET h.example header A\u00e9: {}", "NAME: TEXT"),
        ("GET h.example header A: \u00e9{}", "ASCII"),
        ("GET h.example header host: {}", "belongs to the connection"),
        ("GET h.example header Content-Length: {}", "belongs to the connection"),
        ("GET h.example header A: x\r\nB: {}", "ASCII"),
        ("GET h.example query {}=a", "NAME=TEXT"),
        ("GET h.example query key", "NAME=TEXT"),
        ("GET h.example query key=", "exactly once"),
        ("GET h.example basic a:b", "without ':'"),
        ("GET h.example cookie {}", "header NAME: TEXT, query"),
        (f"GET h.example/{'a' * 9000} {BEARER}", "at most"),
    ],
)
def test_a_rule_that_is_none_says_what_to_write(rule: str, sentence: str) -> None:
    with refused(errno.EINVAL, sentence):
        SecretRule.parse(rule)


LABEL = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
PRINTABLE = st.text("abcXYZ09 -_.~%&=+'/", max_size=12).map(str.strip)
TEMPLATES = st.one_of(
    st.builds(lambda name, a, b: f"header X-{name}: {a}{{}}{b}", LABEL, PRINTABLE, PRINTABLE),
    st.builds(lambda name, a, b: f"query {name}={a}{{}}{b}", LABEL, PRINTABLE, PRINTABLE),
    st.builds(lambda user: f"basic {user}", PRINTABLE),
)


@given(st.sets(st.sampled_from(["GET", "POST", "PUT"])), LABEL, LABEL, TEMPLATES)
def test_a_rule_that_was_written_reads_the_same(
    methods: set[str], host: str, path: str, template: str
) -> None:
    text = f"{','.join(methods) or '*'} https://{host}.example/{path}/** {template}"
    rule = SecretRule.parse(text)
    assert SecretRule.parse(rule.format()) == rule
    assert SecretRule.parse(rule.format()).format() == rule.format()


def apply(template: str, value: str, url: str, *headers: tuple[str, str]) -> tuple[str, object]:
    to, sent = Template.parse(template).apply(value, Url.parse(url), headers)
    return str(to), sent


def test_a_header_replaces_every_one_of_its_name_in_any_case() -> None:
    url, headers = apply(
        BEARER, "v a", "https://h/", ("AUTHORIZATION", "1"), ("A", "2"), ("authorization", "3")
    )
    assert headers == (("A", "2"), ("Authorization", "Bearer v a"))
    assert url == "https://h/"


def test_a_parameter_replaces_every_one_of_its_name_however_it_is_spelled() -> None:
    url, _ = apply("query api_key=k:{}", "v&a=1/é", "https://h/p?a=1&api_key=x&%61pi_key=y&b")
    assert url == "https://h/p?a=1&b&api_key=k%3Av%26a%3D1%2F%C3%A9"
    assert apply("query k={}", "v", "https://h/")[0] == "https://h/?k=v"
    assert apply("query k={}", "v", "https://h/?k")[0] == "https://h/?k=v"


def test_basic_auth_is_that_of_rfc_7617() -> None:
    _, headers = apply("basic Aladdin", "open sesame", "https://h/")
    assert headers == (("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),)


def test_a_header_carries_ascii_alone() -> None:
    with refused(errno.EINVAL, "not ASCII"):
        Template.parse(BEARER).check("schlüssel")
    Template.parse("query k={}").check("schlüssel")
    Template.parse("basic u").check("schlüssel")


@pytest.mark.parametrize("name", ["a", "github", "A.b_c-9", "a" * 64, "-rf", ".hidden"])
def test_a_name_is_letters_digits_and_three_signs(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("", errno.ENOENT),
        (".", errno.EINVAL),
        ("..", errno.EINVAL),
        ("a..b", errno.EINVAL),
        ("../x", errno.EINVAL),
        ("a/b", errno.EINVAL),
        ("a b", errno.EINVAL),
        ("a\n", errno.EINVAL),
        ("é", errno.EINVAL),
        ("a\0", errno.EINVAL),
        ("a" * 65, errno.ENAMETOOLONG),
        ("a" * 300, errno.ENAMETOOLONG),
        ("README", errno.EINVAL),
        ("ctl", errno.EINVAL),
        ("status", errno.EINVAL),
    ],
)
def test_another_name_is_refused(name: str, number: int) -> None:
    with refused(number):
        check_name(name)


@pytest.mark.parametrize("value", [b"1234", b"a b\xc3\xa9!", b"x" * 65_536])
def test_a_value_is_text(value: bytes) -> None:
    assert check_value(value).encode() == value


@pytest.mark.parametrize(
    ("value", "number", "sentence"),
    [
        (b"", errno.EINVAL, "empty"),
        (b"123", errno.EINVAL, "at least 4 bytes"),
        (b"x" * 65_537, errno.EMSGSIZE, "at most 65536"),
        (b"1234\n5678", errno.EINVAL, "line end"),
        (b"1234\r", errno.EINVAL, "line end"),
        (b"12\x0034", errno.EINVAL, "NUL"),
        (b"12\x1b34", errno.EINVAL, "control"),
        (b"12\x7f34", errno.EINVAL, "control"),
        (b"12\xc2\x8534", errno.EINVAL, "control"),
        (b"\xff\xfe\xfd\xfc", errno.EINVAL, "no UTF-8"),
        (b" 1234", errno.EINVAL, "blank"),
        (b"1234\xc2\xa0", errno.EINVAL, "blank"),
    ],
)
def test_another_value_is_refused_without_being_told(
    value: bytes, number: int, sentence: str
) -> None:
    with pytest.raises(OSError, match=sentence) as caught:
        check_value(value)
    assert caught.value.errno == number
    assert "1234" not in str(caught.value)
