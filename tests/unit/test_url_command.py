"""`oanix url` prints where the tree has an address, and the other way round."""

import json

import click
import pytest
from click.testing import CliRunner, Result

from oanix.cli.failures import Failure
from oanix.cli.url import url as command


def _run(*words: str) -> Result:
    done = CliRunner().invoke(command, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_it_prints_the_path_below_the_mount() -> None:
    address = "https://api.github.com/repos/oanix?x=1"
    assert _run(address).stdout == "/cap/http/get/https/api.github.com/repos%2Foanix?x=1\n"
    assert _run("--at", "/m/", address).stdout == "/m/get/https/api.github.com/repos%2Foanix?x=1\n"


def test_it_prints_the_url_of_a_path_wherever_it_is_mounted() -> None:
    for mount in ("", "/cap/http/", "/home/get/https/h/"):
        done = _run("--decode", f"{mount}get/https/h:8443/a%2Fb%2520c")
        assert done.stdout == "https://h:8443/a/b%20c\n"


def test_json_has_both() -> None:
    both = {"url": "https://h/a/b", "path": "/cap/http/get/https/h/a%2Fb"}
    assert json.loads(_run("--json", "HTTPS://H./a/b#c").stdout) == both
    assert json.loads(_run("--json", "--decode", both["path"]).stdout) == both


@pytest.mark.parametrize("path", ["", "/", "/cap/http", "/cap/http/get/https/h", "a/b/c/d"])
def test_a_path_of_something_else_is_refused_with_how_it_is_written(path: str) -> None:
    with pytest.raises(Failure, match="no path of a URL") as caught:
        _run("--decode", path)
    assert "get/SCHEME/HOST/REST" in caught.value.remedy


@pytest.mark.parametrize(
    "words", [("example.com",), ("https://h/a b",), ("--decode", "get/ftp/h/x")]
)
def test_what_is_no_address_is_refused_with_what_to_write(words: tuple[str, ...]) -> None:
    with pytest.raises(OSError, match=r"write|there are"):
        _run(*words)


def test_help_has_examples() -> None:
    assert isinstance(command, click.Command)
    shown = _run("--help").stdout
    assert "Examples:" in shown
    assert "--decode" in shown


def test_a_path_that_is_given_for_a_url_is_told_from_one() -> None:
    with pytest.raises(Failure, match="is a path") as caught:
        _run("/m/get/https/h/a%2Fb?c d")
    assert caught.value.remedy == "oanix url --decode '/m/get/https/h/a%2Fb?c d'"
