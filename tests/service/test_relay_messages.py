"""What a relay reads of a message does not depend on how it is written."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oanix.lib.nostr import Event, Invalid, LocalSigner, Template
from oanix.services.relay.messages import Refusal, Said, parse

ANN = LocalSigner(bytes([1]) * 32, now=lambda: 1_700_000_000)
GOOD = ANN.sign_now(Template(1, 'said "so"\n', (("t", "x"), ("e", "ab" * 32, "", "root"))))
FIELDS = json.loads(GOOD.json())

others = st.sampled_from(
    [
        "1", "1.0", "1e3", "1.5", "-1", "65535", "65536", "true", "null", '""', '"é\\ud83d\\ude00"',
        '"\\ud800"', "[]", "[[]]", '[["t"]]', '[["t",1]]', '[[""],["t","x"]]', "{}", "9" * 30,
        '"' + "ab" * 32 + '"', '"' + "AB" * 32 + '"', '"' + "ab" * 31 + " a" * 1 + '"',
    ]
)  # fmt: skip


def _read(text: str) -> Said | bytes:
    try:
        return parse(text, max_filters=1)
    except Refusal as refusal:
        return refusal.answer


@given(
    st.dictionaries(st.sampled_from([*FIELDS, "more"]), others, max_size=2),
    st.sets(st.sampled_from([*FIELDS]), max_size=1),
    st.sampled_from(["", ",1", ",", "]"]),
)
@example({}, set(), "")
def test_an_event_is_read_the_same_with_blanks_and_without(
    changed: dict[str, str], missing: set[str], more: str
) -> None:
    fields = {name: json.dumps(value) for name, value in FIELDS.items()} | changed
    inner = ",".join(f'"{name}":{raw}' for name, raw in fields.items() if name not in missing)
    quick = _read('["EVENT",{ ' + inner + "}" + more + "]")
    assert quick == _read('["EVENT" ,{' + inner + "}" + more + "]")
    if not changed and not missing and not more:
        assert getattr(quick, "event", None) == GOOD


@given(st.text("0123456789abcdefABF \n_x", min_size=62, max_size=65) | st.just(GOOD.id))
def test_an_id_is_64_digits_of_lower_case_hex_and_nothing_else(text: str) -> None:
    raw = json.dumps({**FIELDS, "id": text})
    if re.fullmatch("[0-9a-f]{64}", text):
        assert Event.parse(raw).id == text
    else:
        with pytest.raises(Invalid, match="64 digits"):
            Event.parse(raw)


@pytest.mark.parametrize("blank", [" ", "\n", "\t"])
def test_blanks_among_the_digits_of_an_id_are_refused(blank: str) -> None:
    for text in ("ab" * 31 + f"{blank}a", f"ab{blank}" * 21 + "a", "ab" * 32 + blank):
        with pytest.raises(Invalid, match="64 digits"):
            Event.parse(json.dumps({**FIELDS, "id": text}))
