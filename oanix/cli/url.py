"""`oanix url`: where an address of the web is found in the tree."""

import shlex

import click

from oanix.cli.failures import Failure
from oanix.cli.output import Out, json_name
from oanix.lib.url import Url, from_tree, to_tree

EPILOG = """\b
Examples:
  cat ~/mnt"$(oanix url 'https://api.github.com/repos/a/b?x=1')"
  cat "$(oanix url --at ~/mnt/cap/http https://example.com/)"
  oanix url --decode /cap/http/get/https/example.com/a%2Fb
  oanix url --json https://example.com/ | jq -r .path"""


@click.command(short_help="Print the path of a URL.", epilog=EPILOG)
@click.argument("url")
@click.option("--at", metavar="PATH", default="/cap/http", show_default=True, help="Its mount.")
@click.option("--decode", is_flag=True, help="Print the URL of a path instead.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: url, path.")
def url(url: str, at: str, decode: bool, as_json: bool) -> None:
    """Print the path at which the tree has URL, to be read with cat and the like.

    The last name of the path is the rest of the URL with / as %2F and % as %25.
    """
    if decode:
        found, path = _decoded(url), url
    else:
        found, path = _parsed(url), f"{at.rstrip('/')}/{to_tree(url)}"
    out = Out()
    if as_json:
        out.json({"url": found, **json_name("path", path)})
    else:
        out.line(found if decode else path)


def _parsed(url: str) -> str:
    if "/get/" in url and "://" not in url:
        raise Failure(f"{url} is a path", f"oanix url --decode {shlex.quote(url)}")
    return str(Url.parse(url))


def _decoded(path: str) -> str:
    """Give the URL of a path, whatever stands before its `get`."""
    names = path.split("/")[-4:]
    if len(names) < 4 or names[0] != "get":
        raise Failure(
            f"{path}: no path of a URL",
            "write …/get/SCHEME/HOST/REST, in which REST is one name with / as %2F and % as %25",
        )
    return str(from_tree(*names[1:]))
