"""The requests and answers of HttpFs as lines of JSON, and what is refused in them."""

import errno
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.services.http.message import answer, parse
from tests.reach import refused

URL = '"url": "http://h/"'


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "no JSON"), ("[]", "JSON object"), ("3", "JSON object"), ("null", "JSON object"),
        ("{", "jq -c"), ("{}", "url"), ("{'url': 1}", "no JSON"), ('{"url": 1}', "string"),
        (f'{{{URL}, "uri": 1}}', "known: method, url"), (f"{{{URL}, {URL}}}", "twice"),
        (f'{{{URL}, "headers": {{"A": "1", "A": "2"}}}}', "twice"),
        (f'{{{URL}, "timeout": NaN}}', "NaN"), (f'{{{URL}, "json": Infinity}}', "Infinity"),
        (f'{{{URL}, "json": 1e999}}', "cannot write"), (f'{{{URL}, "timeout": 1e999}}', "seconds"),
        (f'{{{URL}, "timeout": 0}}', "seconds"), (f'{{{URL}, "timeout": -1}}', "seconds"),
        (f'{{{URL}, "timeout": true}}', "seconds"), (f'{{{URL}, "timeout": "1"}}', "seconds"),
        (f'{{{URL}, "follow": 1}}', "true or false"), (f'{{{URL}, "method": ""}}', "no method"),
        (f'{{{URL}, "method": "GET\\r\\nX: y"}}', "no method"),
        (f'{{{URL}, "method": "CONNECT"}}', "not sent"), (f'{{{URL}, "method": "trace"}}', "not"),
        (f'{{{URL}, "method": "G T"}}', "no method"), (f'{{{URL}, "method": 1}}', "string"),
        (f'{{{URL}, "headers": 1}}', "object"), (f'{{{URL}, "headers": [["a"]]}}', "pairs"),
        (f'{{{URL}, "headers": {{"A": null}}}}', "strings"),
        (f'{{{URL}, "headers": {{"A": "x\\r\\nB: y"}}}}', "printable"),
        (f'{{{URL}, "headers": {{"A": "x\\u0000"}}}}', "printable"),
        (f'{{{URL}, "headers": {{"A": "é"}}}}', "printable"),
        (f'{{{URL}, "headers": {{"A\\r\\nB": "x"}}}}', "no name"),
        (f'{{{URL}, "headers": {{"A B": "x"}}}}', "no name"),
        (f'{{{URL}, "headers": {{":path": "/x"}}}}', "no name"),
        (f'{{{URL}, "headers": {{"": "x"}}}}', "no name"),
        (f'{{{URL}, "headers": {{"Host": "evil"}}}}', "server alone"),
        (f'{{{URL}, "headers": {{"content-length": "3"}}}}', "server alone"),
        (f'{{{URL}, "headers": {{"Transfer-Encoding": "chunked"}}}}', "server alone"),
        (f'{{{URL}, "headers": {{"Proxy-Authorization": "x"}}}}', "server alone"),
        (f'{{{URL}, "body": 1}}', "string"), (f'{{{URL}, "body": "a", "json": 1}}', "one body"),
        (f'{{{URL}, "body": "\\ud800"}}', "surrogate"),
        (f'{{{URL}, "json": {{"a": "\\ud800"}}}}', "surrogate"),
        (f'{{{URL}, "body_base64": "a"}}', "base64"), (f'{{{URL}, "body_base64": "é"}}', "base64"),
        (f'{{{URL}, "body_base64": "aGk=\\n"}}', "base64"), (f'{{{URL}, "body_base64": 1}}', "str"),
        ('{"url": "ftp://h/"}', "scheme"), ('{"url": "/x"}', "begins with its scheme"),
        ('{"url": "http://u:p@h/"}', "user"), ('{"url": "http://h/\\r\\nX: y"}', "control"),
        ('{"url": "http://h/\\ud800"}', "UTF-8"), ('{"url": "http://h:0/"}', "port"),
        (f'{{{URL}, "json": {"[" * 100_000}}}', "nested|JSON"),
        (f'{{{URL}, "json": {"1" * 5000}}}', "JSON"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_what_to_write(line: str, sentence: str) -> None:
    with refused(errno.EINVAL, sentence):
        parse(line.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    with refused(errno.EINVAL, "byte 1 "):
        parse(b"{\xff}")


def test_headers_are_bounded() -> None:
    headers = {f"X-{n}": "v" * 1000 for n in range(70)}
    with refused(errno.EMSGSIZE, "65536"):
        parse(json.dumps({"url": "http://h/", "headers": headers}).encode())


bodies = st.binary(max_size=200) | st.text(max_size=50).map(str.encode)


@given(bodies)
def test_an_answer_is_one_line_that_gives_its_body_back(body: bytes) -> None:
    line = answer(200, (("A", "b"),), body, "http://h/", 1)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    found = json.loads(line)
    again = {key: found[key] for key in ("body", "body_base64") if key in found}
    assert len(again) == 1
    sent = parse(json.dumps({"url": "http://h/", **again}).encode())
    assert sent.body == body


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_no_text_does_more_than_to_be_refused(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    for line in (raw, b'{"url": "http://h/", "headers": {"A": "' + raw + b'"}}'):
        # What is refused is so with an OSError, and what passes can break no header.
        with suppress(OSError):
            found = parse(line)
            assert not any(c in v for _, v in found.headers for c in "\r\n\0")


def test_headers_that_come_twice_are_joined_and_cookies_are_a_list() -> None:
    headers = (("Vary", "A"), ("vary", "B"), ("Set-Cookie", "a=1"), ("X", "y"))
    shown = json.loads(answer(200, headers, b"", "http://h/", 1))["headers"]
    assert shown == {"vary": "A, B", "set-cookie": ["a=1"], "x": "y"}
