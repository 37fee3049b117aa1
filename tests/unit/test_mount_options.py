"""Options of a FUSE mount."""

import errno
import os

import pytest

from mounts.options import FUSE_CONF, FuseOptions


def test_words_may_hold_several_options() -> None:
    options = FuseOptions.parse(["ro,list-all", "linger-us=0"])
    assert options.read_only
    assert options.list_all
    assert options.linger_us == 0
    assert not options.exclusive


def test_the_last_of_ro_and_rw_wins() -> None:
    assert not FuseOptions.parse(["ro", "rw"]).read_only


@pytest.mark.parametrize(
    "word", ["sloppy", "ro=1", "linger-us", "linger-us=-1", "linger-us=99999999", "linger-us=x"]
)
def test_an_unknown_option_is_refused_with_those_known(word: str) -> None:
    with pytest.raises(OSError, match="known: ro, allow-other") as refused:
        FuseOptions.parse([word])
    assert refused.value.errno == errno.EINVAL


@pytest.mark.skipif(os.geteuid() == 0, reason="root may always give allow_other")
def test_allow_other_needs_a_line_of_fuse_conf() -> None:
    lines = FUSE_CONF.read_text().splitlines() if FUSE_CONF.exists() else []
    if "user_allow_other" in lines:
        assert FuseOptions.parse(["allow_other"]).allow_other
    else:
        with pytest.raises(PermissionError, match="user_allow_other"):
            FuseOptions.parse(["allow_other"])
