"""Whatever is changed in a journal is found, and the first bad record is named."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from oanix.journal import Anchor, Limits, Problem, Trust
from oanix.journal.chain import GENESIS, sealed
from tests.unit.journals import Kept

NAMES = [f"directory-{number}" for number in range(12)]


@frozen
class Sample:
    """A journal of some segments that is not touched, only copied."""

    kept: Kept
    lines: list[bytes]
    cuts: list[int]
    """The number of records before each segment, and of all."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    kept = Kept(tmp_path_factory.mktemp("sample"))
    trio.run(kept.write, NAMES, Limits(segment_bytes=900))
    contents = [file.read_bytes().splitlines(keepends=True) for file in kept.segments]
    cuts = [0]
    for content in contents:
        cuts.append(cuts[-1] + len(content))
    return Sample(kept, [line for content in contents for line in content], cuts)


def changed(sample: Sample, lines: list[bytes], gone: tuple[int, ...] = ()) -> Problem | None:
    """Verify a copy with these lines, in segments as large as they were."""
    with TemporaryDirectory() as folder:
        copy = Kept(Path(folder))
        shutil.copytree(sample.kept.folder, folder, dirs_exist_ok=True)
        for index, file in enumerate(copy.segments):
            last = index + 2 == len(sample.cuts)
            content = lines[sample.cuts[index] : None if last else sample.cuts[index + 1]]
            file.write_bytes(b"".join(content))
            if index in gone:
                file.unlink()
        return copy.verify().problem


def found(problem: Problem | None) -> Problem:
    assert problem is not None
    assert str(problem).startswith(f"record {problem.number} (")
    return problem


def test_an_unchanged_journal_is_sound(sample: Sample) -> None:
    assert len(sample.cuts) > 4
    assert changed(sample, sample.lines) is None


@given(st.data())
def test_any_edited_byte_is_found_in_its_record(sample: Sample, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(sample.lines) - 1))
    line = bytearray(sample.lines[index])
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[place]))
    lines = [*sample.lines[:index], bytes(line), *sample.lines[index + 1 :]]
    assert found(changed(sample, lines)).number == index + 1


@given(st.data())
def test_any_inserted_or_deleted_byte_is_found_in_its_record(
    sample: Sample, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(sample.lines) - 1))
    line = sample.lines[index]
    place = data.draw(st.integers(0, len(line) - 1))
    more = data.draw(st.binary(max_size=2))
    new = line[:place] + more + line[place + (not more) :]
    lines = [*sample.lines[:index], new, *sample.lines[index + 1 :]]
    assert found(changed(sample, lines)).number == index + 1


@given(st.data())
def test_any_missing_record_is_named(sample: Sample, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(sample.lines) - 1))
    problem = found(changed(sample, [*sample.lines[:index], *sample.lines[index + 1 :]]))
    assert problem.number == index + 1
    assert problem.what == ("truncated" if index + 1 == len(sample.lines) else "missing")


@given(st.data())
def test_any_record_that_stands_twice_is_named(sample: Sample, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(sample.lines) - 1))
    lines = [*sample.lines[: index + 1], sample.lines[index], *sample.lines[index + 1 :]]
    problem = found(changed(sample, lines))
    assert (problem.what, problem.number) == ("duplicated", index + 2)


@given(st.data())
def test_any_two_records_that_changed_places_are_found(sample: Sample, data: st.DataObject) -> None:
    pairs = st.tuples(*[st.integers(0, len(sample.lines) - 1)] * 2)
    first, second = sorted(data.draw(pairs.filter(lambda pair: pair[0] != pair[1])))
    lines = list(sample.lines)
    lines[first], lines[second] = lines[second], lines[first]
    problem = found(changed(sample, lines))
    assert (problem.what, problem.number) == ("reordered", first + 1)


@given(st.data())
def test_any_truncation_is_found(sample: Sample, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(sample.lines) - 1))
    problem = found(changed(sample, sample.lines[:count]))
    assert (problem.what, problem.number) == ("truncated", count + 1)


def test_any_segment_that_is_gone_is_found(sample: Sample) -> None:
    last = len(sample.cuts) - 2
    for index in range(last + 1):
        problem = found(changed(sample, sample.lines, (index,)))
        assert problem.number == sample.cuts[index] + 1
        assert problem.what == ("missing" if index < last else "truncated")


def test_a_problem_names_the_file_and_the_line(sample: Sample) -> None:
    index = sample.cuts[2] + 1
    lines = list(sample.lines)
    lines[index] = lines[index].replace(b'"ok"', b'"no"')
    problem = found(changed(sample, lines))
    assert problem.place.file.endswith("journal/00000003.jsonl")
    assert problem.place.line == 2


def rewritten(kept: Kept) -> None:
    """Change a record and make all hashes anew."""
    previous, done = GENESIS, []
    first = kept.segments[0]
    for number, line in enumerate(first.read_text().splitlines()):
        text = line[: line.rindex(',"hash"')]
        if number == 2:
            text = text.replace("directory-0", "directory-X")
        new, previous = sealed(previous, text)
        done.append(new)
    first.write_text("".join(done))


@pytest.mark.parametrize("anchored", [True, False])
async def test_a_journal_with_new_hashes_does_not_fit_the_anchor(
    tmp_path: Path, anchored: bool
) -> None:
    kept = Kept(tmp_path)
    await kept.write(NAMES)
    rewritten(kept)
    count = len(kept.records())
    if not anchored:
        # Who has no key can replace the anchor too, but not its tag.
        head = kept.anchor.read()
        assert head is not None
        last = str(kept.records()[-1]["hash"])
        forged = evolve(kept, authenticator=lambda data: b"guess" * 6 + b"!!")
        forged.anchor.write(evolve(head, hash=last))
    problem = found(kept.verify().problem)
    assert problem.number == count
    assert problem.what == ("rewritten" if anchored else "anchor")


async def test_a_missing_or_spoilt_anchor_is_a_problem(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    await kept.write(["a"])
    kept.anchor_file.write_text('{"count": "many"}')
    finding = kept.verify()
    assert (found(finding.problem).what, finding.trust) == ("anchor", Trust.FORGED)
    kept.anchor_file.unlink()
    finding = kept.verify()
    assert (found(finding.problem).what, finding.trust) == ("anchor", Trust.MISSING)


async def test_the_anchor_of_another_journal_is_not_genuine(tmp_path: Path) -> None:
    one, two = Kept(tmp_path / "one"), Kept(tmp_path / "two")
    await one.write(["a"])
    other = Anchor(str(two.folder / "anchors/two"), two.authenticator)
    head = one.anchor.read()
    assert head is not None
    other.write(head)
    shutil.copy(other.path, one.anchor.path)
    assert found(one.verify().problem).what == "anchor"


async def test_records_after_the_anchor_are_counted_as_not_covered(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    await kept.write(["a"])
    old = kept.anchor_file.read_bytes()
    await kept.write(["b"])
    kept.anchor_file.write_bytes(old)
    finding = kept.verify()
    assert finding.sound
    assert (finding.covered, finding.uncovered, finding.last) == (4, 4, 8)


@pytest.mark.parametrize(
    "change", ["truncated", "gone", "rewritten", "anchor gone", "anchor spoilt", "forged"]
)
async def test_what_was_changed_while_nobody_wrote_is_still_found_after_the_next_start(
    tmp_path: Path, change: str
) -> None:
    kept = Kept(tmp_path)
    await kept.write(NAMES)
    [segment] = kept.segments
    if change == "truncated":
        segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:5]))
    elif change == "gone":
        segment.unlink()
    elif change == "rewritten":
        rewritten(kept)
    elif change == "anchor gone":
        kept.anchor_file.unlink()
    elif change == "anchor spoilt":
        kept.anchor_file.write_text("{}")
    else:
        kept.anchor_file.write_text(kept.anchor_file.read_text().replace('"tag": "', '"tag": "00'))
    await kept.write(["later"])
    await kept.write(["and later"])
    expected = {"truncated": (6, "missing"), "gone": (1, "missing")}
    problem = found(kept.verify().problem)
    assert (problem.number, problem.what) == expected.get(change, (16, "broken"))


def test_each_problem_has_a_sentence(sample: Sample) -> None:
    problem = found(changed(sample, sample.lines[:-1]))
    assert "the last 1 are gone" in problem.sentence
