"""Jobs and requests: how far each is, kept on the disk, and what their tags say."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.dvm import Jobs, Request
from oanix.dvm.request import Input, cancelled
from oanix.lib.nostr import Event, LocalSigner, Template
from tests.reach import refused

NOW = 1_700_000_000
ANN = LocalSigner(bytes([1]) * 32, now=lambda: NOW)


def asked(*tags: tuple[str, ...], content: str = "") -> Request:
    return Request.of(ANN.sign_now(Template(5050, content, tags)))


ONE = asked(("i", "one"))


def test_a_job_is_noted_once_claimed_once_and_kept(tmp_path: Path) -> None:
    jobs = Jobs.open(tmp_path / "dvm")
    assert jobs.add(ONE, "waiting", NOW)
    assert not jobs.add(ONE, "waiting", NOW)
    assert jobs.claim(ONE.id)
    assert not jobs.claim(ONE.id)
    jobs.close()
    jobs = Jobs.open(tmp_path / "dvm")
    [job] = jobs.open_ones()
    assert (job.request, job.state, job.tries) == (ONE, "running", 1)
    jobs.release(ONE.id, tried=True)
    assert jobs.claim(ONE.id)
    jobs.release(ONE.id, tried=False)
    assert [(job.state, job.tries) for job in jobs.open_ones()] == [("waiting", 1)]
    assert jobs.counts() == {"waiting": 1}
    jobs.close()


def test_an_answer_is_kept_until_it_is_published(tmp_path: Path) -> None:
    jobs = Jobs.open(tmp_path)
    jobs.add(ONE, "waiting", NOW)
    jobs.answer(ONE.id, "done", "{}")
    assert jobs.open_ones()[0].state == "waiting"
    jobs.claim(ONE.id)
    jobs.answer(ONE.id, "done", "{}")
    event = ANN.sign_now(ONE.result("said", None))
    jobs.sign(ONE.id, event)
    [job] = jobs.open_ones()
    assert (job.state, job.outcome, Event.parse(job.answer)) == ("answered", "done", event)
    jobs.end(ONE.id, "done")
    assert jobs.open_ones() == []
    assert not jobs.add(ONE, "waiting", NOW)
    jobs.forget(NOW)
    assert jobs.find(ONE.id) is not None
    jobs.forget(NOW + 1)
    assert jobs.find(ONE.id) is None
    jobs.close()


def test_what_is_not_at_its_end_is_not_forgotten(tmp_path: Path) -> None:
    jobs = Jobs.open(tmp_path)
    jobs.add(ONE, "waiting", NOW)
    jobs.forget(NOW + 10**9)
    assert len(jobs.open_ones()) == 1
    jobs.close()


def test_a_folder_has_one_worker(tmp_path: Path) -> None:
    jobs = Jobs.open(tmp_path)
    with refused(errno.EBUSY, "another worker"):
        Jobs.open(tmp_path)
    jobs.close()
    Jobs.open(tmp_path).close()


def test_the_tags_of_a_request_are_read() -> None:
    found = asked(
        ("i", "a"), ("i", "b", "event", "wss://r", "m", "more"), ("i",), ("p", "x"), ("p",),
        ("bid", "21"), ("bid", "22"), ("param", "k", "v", "w"), ("output", "text/plain"),
    )  # fmt: skip
    assert found.inputs == (Input("a"), Input("b", "event", "wss://r", "m"))
    assert (found.bid, found.output, found.providers) == (21, "text/plain", frozenset("x"))
    assert found.params == (("k", "v", "w"),)
    assert not found.encrypted
    assert asked(("encrypted",)).encrypted


@pytest.mark.parametrize("bid", ["", "-1", "1.0", "1e3", "٣", "9" * 19, " 1"])
def test_a_bid_that_is_no_number_is_none(bid: str) -> None:
    assert asked(("bid", bid)).bid is None


def test_a_result_has_the_tags_of_the_nip() -> None:
    request = asked(("i", "a", "text"), ("i", "b", "url", "wss://r", "m"), ("t", "x"))
    made = request.result("said", 1_000)
    assert (made.kind, made.content) == (6050, "said")
    assert Event.parse(made.tags[0][1]) == request.event
    assert made.tags[1:] == (
        ("e", request.id), ("p", ANN.pubkey), ("i", "a", "text"),
        ("i", "b", "url", "wss://r", "m"), ("amount", "1000"),
    )  # fmt: skip
    assert request.result("", None).tags[-1][0] == "i"
    said = request.feedback("error", "why")
    assert (said.kind, said.tags) == (
        7000, (("status", "error", "why"), ("e", request.id), ("p", ANN.pubkey))
    )  # fmt: skip
    assert request.feedback("payment-required", price=5).tags[-1] == ("amount", "5")


def test_a_deletion_names_events() -> None:
    tags = (("e", ONE.id), ("e", "x"), ("e",), ("a", f"1:{ANN.pubkey}:"))
    assert cancelled(ANN.sign_now(Template(5, "", tags))) == [ONE.id]


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=6).map(tuple), max_size=6))
def test_any_tags_make_a_request_and_a_result(tags: list[tuple[str, ...]]) -> None:
    found = asked(*tags)
    assert Event.parse(found.result("x", found.bid).tags[0][1]) == found.event
    assert found.described()["id"] == found.id
