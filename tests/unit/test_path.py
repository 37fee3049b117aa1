"""Names and paths: bytes survive, bad ones are refused, nothing leaves the root."""

import errno

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oanix.path import NAME_MAX, PATH_MAX, check_name, clean, decode, encode, join, split

NAME_BYTES = st.binary(min_size=1, max_size=NAME_MAX).filter(
    lambda raw: b"/" not in raw and b"\0" not in raw and raw not in (b".", b"..")
)


def refusal(check: object, argument: str) -> str:
    """Give the errno with which a function refuses an argument, or "" when it takes it."""
    assert callable(check)
    try:
        check(argument)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


@given(st.binary())
@example(b"\xff\xfe")
@example(b"caf\xe9")
@example("NFC é, NFD é, RTL \u202e".encode())
@example(b"\xed\xa0\x80")
def test_every_byte_sequence_survives_as_a_name(raw: bytes) -> None:
    assert encode(decode(raw)) == raw


@given(st.text(st.characters(codec=None)))
@example("\ud800")
@example("caf\udcc3\udca9")
def test_what_is_encoded_is_decoded_to_the_same_or_refused(name: str) -> None:
    if not refusal(encode, name):
        assert decode(encode(name)) == name


def test_one_file_has_one_spelling() -> None:
    assert decode(b"caf\xc3\xa9") == "café"
    assert refusal(encode, "caf\udcc3\udca9") == "EINVAL"
    assert refusal(check_name, "caf\udcc3\udca9") == "EINVAL"
    assert refusal(clean, "/caf\udcc3\udca9/x") == "EINVAL"
    assert refusal(check_name, "\ud800") == "EINVAL"
    assert refusal(check_name, "\udce9") == ""


@given(NAME_BYTES)
def test_every_name_that_linux_takes_is_taken(raw: bytes) -> None:
    check_name(decode(raw))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "ENOENT"),
        (".", "EINVAL"),
        ("..", "EINVAL"),
        ("a\0b", "EINVAL"),
        ("a/b", "EINVAL"),
        ("/", "EINVAL"),
        ("n" * 255, ""),
        ("n" * 256, "ENAMETOOLONG"),
        ("é" * 127, ""),
        ("é" * 128, "ENAMETOOLONG"),
        ("\U0001f600" * 63, ""),
        ("\U0001f600" * 64, "ENAMETOOLONG"),
        ("\udcff" * 255, ""),
        ("\udcff" * 256, "ENAMETOOLONG"),
        ("...", ""),
        (" ", ""),
        ("ctl ", ""),
        ("-rf", ""),
        ("~", ""),
        ("*", ""),
        ("CON", ""),
        ("new\nline", ""),
        ("\x1b[31m", ""),
        ("\u202etxt.exe", ""),
    ],
)
def test_a_name_is_taken_or_refused_with_the_errno_of_linux(name: str, expected: str) -> None:
    assert refusal(check_name, name) == expected


PATH_TEXT = st.lists(
    st.one_of(st.sampled_from(["", ".", "..", "a", "b", "...", "a b"]), NAME_BYTES.map(decode)),
    max_size=8,
).map(lambda names: "/" + "/".join(names))


@given(PATH_TEXT)
def test_a_cleaned_path_holds_only_names_and_is_clean(path: str) -> None:
    names = clean(path)
    for name in names:
        check_name(name)
    assert clean(join(names)) == names


@given(st.lists(st.just(".."), min_size=1), st.lists(st.sampled_from(["a", "b", "..", "."])))
def test_no_number_of_parents_leaves_the_root(up: list[str], then: list[str]) -> None:
    assert clean("/" + "/".join(up + then)) == clean("/" + "/".join(then))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", ()),
        ("//a///b/", ("a", "b")),
        ("/a/./b/.", ("a", "b")),
        ("/..", ()),
        ("/a/../../etc/passwd", ("etc", "passwd")),
        ("/%2e%2e%2fa", ("%2e%2e%2fa",)),
        ("/..;/a", ("..;", "a")),
        ("/..\\a", ("..\\a",)),
    ],
)
def test_a_path_is_cleaned_by_its_text(path: str, names: tuple[str, ...]) -> None:
    assert clean(path) == names


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "EINVAL"),
        ("a/b", "EINVAL"),
        ("/a\0", "EINVAL"),
        ("/" + "n" * 256, "ENAMETOOLONG"),
        ("/a" * ((PATH_MAX - 1) // 2), ""),
        ("/a" * (PATH_MAX // 2 + 1), "ENAMETOOLONG"),
        ("/é" * 1366, "ENAMETOOLONG"),
    ],
)
def test_a_path_that_is_none_is_refused(path: str, expected: str) -> None:
    assert refusal(clean, path) == expected


def test_splitting_keeps_parents_for_whoever_resolves_them() -> None:
    assert split("a//b/../c/.") == ["a", "b", "..", "c"]
    assert refusal(split, "") == "ENOENT"
