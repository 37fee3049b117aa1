"""Errors: numbers for doors, sentences for people."""

import errno
import logging

import pytest

from oanix.caller import Caller
from oanix.errors import SENTENCES, SESSIONS, Denied, Missing, Sentences, errno_of, fault

ME = Caller(uid=1000, session="7", request="r1")


def test_a_fault_is_the_error_that_python_has_for_its_number() -> None:
    assert isinstance(fault(errno.ENOENT, "no such thing"), FileNotFoundError)
    assert isinstance(fault(errno.EPERM, "no"), PermissionError)
    error = fault(errno.EROFS, "mounted read-only", "/a")
    assert (error.errno, error.strerror, error.filename) == (errno.EROFS, "mounted read-only", "/a")


def test_a_missing_name_is_enoent() -> None:
    assert Missing("x").errno == errno.ENOENT
    assert Missing("x").filename == "x"


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (fault(errno.EXDEV, "across"), errno.EXDEV),
        (OSError("without a number"), errno.EIO),
        (ValueError("ours"), errno.EIO),
        (MemoryError(), errno.EIO),
        (ExceptionGroup("two", [ValueError(), KeyError()]), errno.EIO),
    ],
)
def test_every_error_has_a_number(error: BaseException, number: int) -> None:
    assert errno_of(error) == number


def test_what_a_user_did_wrong_is_kept_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    sentences = Sentences()
    assert sentences.report(fault(errno.EINVAL, "unknown verb"), ME, "write /ctl") == errno.EINVAL
    assert sentences.of(ME) == ["write /ctl: unknown verb"]
    assert not caplog.records


def test_a_missing_name_leaves_no_sentence() -> None:
    sentences = Sentences()
    assert sentences.report(Missing("x"), ME, "stat /x") == errno.ENOENT
    assert sentences.of(ME) == []


def test_a_defect_of_ours_is_logged_with_its_request_and_told_without_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sentences = Sentences()
    with caplog.at_level(logging.ERROR):
        number = sentences.report(ValueError("token=secret"), ME, "open /x")
    assert number == errno.EIO
    [sentence] = sentences.of(ME)
    assert "ValueError" in sentence
    assert "secret" not in sentence
    [record] = caplog.records
    assert "request=r1" in record.getMessage()
    assert record.exc_info is not None


def test_only_the_last_sentences_are_kept_newest_last() -> None:
    sentences = Sentences()
    for number in range(SENTENCES + 5):
        sentences.add(ME, f"number {number}")
    assert sentences.of(ME) == [f"number {n}" for n in range(5, SENTENCES + 5)]


def test_sentences_belong_to_the_job_else_the_session_else_the_user() -> None:
    sentences = Sentences()
    job = Caller(uid=1000, session="7", job="j1")
    user = Caller(uid=1000)
    sentences.add(job, "of the job")
    sentences.add(ME, "of the session")
    sentences.add(user, "of the user")
    assert sentences.of(job) == ["of the job"]
    assert sentences.of(ME) == ["of the session"]
    assert sentences.of(user) == ["of the user"]
    assert sentences.of(Caller(uid=1001)) == []


def test_the_session_that_was_silent_the_longest_is_forgotten() -> None:
    sentences = Sentences()
    for number in range(SESSIONS):
        sentences.add(Caller(session=str(number)), "x")
    sentences.add(Caller(session="0"), "again")
    sentences.add(Caller(session="new"), "x")
    assert sentences.of(Caller(session="0")) == ["x", "again"]
    assert sentences.of(Caller(session="1")) == []


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "\u202e", "\udcff"])
def test_a_sentence_is_one_printable_line_whatever_is_in_it(name: str) -> None:
    sentences = Sentences()
    sentences.report(fault(errno.EINVAL, f"bad name {name}"), ME, "open")
    [sentence] = sentences.of(ME)
    assert sentence.isprintable()
    assert sentence.encode()


def test_the_last_refusal_by_a_rule_is_kept_for_its_session() -> None:
    sentences = Sentences()
    other = Caller(uid=1001, session="8")
    for host in ("one", "two"):
        denied = Denied(
            "no rule allows it", what=f"GET https://{host}/", rule="line 2: deny *",
            remedy=f"allow GET https://{host}/",
        )  # fmt: skip
        assert sentences.report(denied, ME, "open /cap/http/get") == errno.EACCES

    kept = sentences.why(ME)
    assert kept is not None
    assert kept.what == "GET https://two/"
    assert sentences.why(other) is None
    assert sentences.of(ME)[-1] == "open /cap/http/get: no rule allows it"


def test_refusals_are_kept_for_a_bounded_number_of_sessions() -> None:
    sentences = Sentences()
    denied = Denied("no", what="x", rule="r", remedy="a")
    for number in range(SESSIONS + 1):
        sentences.report(denied, Caller(session=str(number)), "open /x")
    assert sentences.why(Caller(session="0")) is None
    assert sentences.why(Caller(session="1")) is denied


def test_who_listens_hears_every_error_of_a_session_and_nothing_of_others() -> None:
    sentences = Sentences()
    heard: list[tuple[str, str]] = []
    job = Caller(job="7")
    sentences.listen(job, lambda error, what: heard.append((type(error).__name__, what)))
    sentences.report(Missing("x"), job, "stat /x")
    sentences.report(fault(errno.EIO, "no"), ME, "read /y")
    sentences.report(ValueError("ours"), Caller(job="7", uid=3), "read /z")
    sentences.listen(job, None)
    sentences.report(Missing("x"), job, "stat /x")
    assert heard == [("Missing", "stat /x"), ("ValueError", "read /z")]
