"""`oanix nostr key`: keys that sign and are never shown, kept as secrets of the vault."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from oanix.cli.failures import Failure
from oanix.cli.output import Out, complain
from oanix.cli.passphrase import open_vault, unlock, unlock_or_make
from oanix.env import state_folder
from oanix.env.state import make_state
from oanix.lib.vault import Vault, check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from oanix.lib.nostr import LocalSigner

EPILOG = """\b
Examples:
  oanix nostr key new               make the key that /cap/nostr signs with
  oanix nostr key import < nsec     take one that you have
  oanix nostr key show              your npub"""

NEW_EPILOG = """\b
Examples:
  oanix nostr key new
  oanix nostr key new bot"""

IMPORT_EPILOG = """\b
Examples:
  oanix nostr key import            asks for it
  oanix nostr key import < nsec.txt
  oanix nostr key import < bunker   a signer elsewhere: bunker://PUBKEY?relay=…&secret=…
  pass nostr/bot | oanix nostr key import bot"""

SHOW_EPILOG = """\b
Examples:
  oanix nostr key show
  oanix nostr key show bot --json | jq -r .pubkey"""

LIST_EPILOG = """\b
Examples:
  oanix nostr key list
  oanix nostr key list --json | jq -r '.[].name'"""

REMOVE_EPILOG = """\b
Examples:
  oanix nostr key remove bot"""

FIRST = "nostr"
"""The secret that holds the key of who names none."""

INPUT_MAX = 8_192
"""Longest input for a key in bytes; an nsec has 63, the URL of a bunker some hundred."""

BUNKER = "bunker://"


def secret_of(name: str | None) -> str:
    """Give the name of the secret that holds a key: `nostr`, or `nostr.NAME`."""
    if name in (None, FIRST):
        return FIRST
    return f"{FIRST}.{str(name).removeprefix(f'{FIRST}.')}"


def _is_key(secret: str) -> bool:
    return secret == FIRST or secret.startswith(f"{FIRST}.")


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of the keys."""
    with _opened() as vault:
        return [
            CompletionItem(name)
            for name in vault.names()
            if _is_key(name) and name.startswith(incomplete)
        ]


_takes_file = click.option(
    "--passphrase-file", "file", metavar="FILE", help="Read the passphrase of the vault from FILE."
)
_takes_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_takes_name = click.argument("name", required=False, shell_complete=_names)
_takes_new_name = click.argument("name", required=False)


@click.group(short_help="Keep keys that sign and are never shown.", epilog=EPILOG)
def key() -> None:
    """Keep keys that sign and are never shown, as secrets in the vault.

    /cap/nostr signs with the one that has no NAME. No command shows an nsec: a copy of one that you
    want to keep elsewhere is made before it is imported.
    """


@key.command("new", short_help="Make a key.", epilog=NEW_EPILOG)
@_takes_json
@_takes_file
@_takes_new_name
def new(name: str | None, file: str | None, as_json: bool) -> None:
    """Make a key, and print its npub."""
    from oanix.lib.nostr import make_secret

    _keep(name, file, lambda: make_secret().hex().encode(), as_json)


@key.command("import", short_help="Take a key that you have.", epilog=IMPORT_EPILOG)
@_takes_json
@_takes_file
@_takes_new_name
def import_(name: str | None, file: str | None, as_json: bool) -> None:
    """Take a key: asks for it, or reads it from the standard input, as nsec or as 64 hex digits.

    The URL of a bunker has a signer elsewhere sign (NIP-46): it is asked when /cap/nostr is used.
    """
    _keep(name, file, _asked, as_json)


@key.command("show", short_help="Show a key's npub.", epilog=SHOW_EPILOG)
@_takes_json
@_takes_file
@_takes_name
def show(name: str | None, file: str | None, as_json: bool) -> None:
    """Show the public key: its npub, never its nsec; of a signer elsewhere, where that is found."""
    secret = secret_of(name)
    with _opened() as vault:
        _require(vault, secret)
        unlock(vault, file)
        told = vault.lend(secret, lambda value: _described(secret, value))
    _print(told, as_json)


@key.command("list", short_help="List the keys.", epilog=LIST_EPILOG)
@_takes_json
def list_(as_json: bool) -> None:
    """List the keys: names, dates and uses. It needs no passphrase; `show` has the npub."""
    with _opened() as vault:
        found = [info for info in vault.list() if _is_key(info.name)]
    out = Out()
    if as_json:
        out.json([
            {
                "name": info.name, "created_ns": info.created, "last_used_ns": info.last_used,
                "uses": info.uses,
            }
            for info in found
        ])  # fmt: skip
    elif found:
        out.table(
            ["NAME", "CREATED", "LAST USED", "USES"],
            [
                (info.name, _date(info.created), _date(info.last_used), str(info.uses))
                for info in found
            ],
        )


@key.command("remove", short_help="Remove keys.", epilog=REMOVE_EPILOG)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=_names)
def remove(names: tuple[str, ...]) -> None:
    """Remove keys; the one without a name is called nostr. They are gone for good.

    Nobody can sign as they did any more, unless an nsec was kept elsewhere.
    """
    with _opened() as vault:
        for secret in map(secret_of, names):
            _require(vault, secret)
            vault.remove(secret)


# What they share ---------------------------------------------------------------------------------


@contextmanager
def _opened(*, make: bool = False) -> Iterator[Vault]:
    if make:
        make_state(state_folder())
    vault = open_vault()
    try:
        yield vault
    finally:
        vault.close()


def _keep(name: str | None, file: str | None, make: "Callable[[], bytes]", as_json: bool) -> None:
    secret = secret_of(name)
    if name is not None and (name.startswith("nsec1") or len(name) == 64):
        raise click.UsageError(
            "a key is no argument, as the shell would remember it: type it when asked, or pipe it"
        )
    check_name(secret)
    if secret == f"{FIRST}.":
        raise click.UsageError("a key's NAME has a letter or more; leave it out for the first key")
    with _opened(make=True) as vault:
        if secret in vault.names():
            # An identity that is written over cannot be had back.
            raise Failure(
                f"there is a key {secret} already",
                f"make one of another name, or remove this one: oanix nostr key remove {secret}",
                os.EX_CANTCREAT,
            )
        value = make()
        told = _described(secret, value)
        unlock_or_make(vault, file)
        vault.set(secret, value)
    _print(told, as_json)
    complain(f"oanix: the key {secret} is kept in the vault")


def _require(vault: Vault, secret: str) -> None:
    if secret not in vault.names():
        name = "" if secret == FIRST else f" {secret.removeprefix(f'{FIRST}.')}"
        raise Failure(f"there is no key {secret}", f"make it: oanix nostr key new{name}")


def _signer(value: bytes) -> "LocalSigner":
    from oanix.lib.nostr import Invalid, LocalSigner

    try:
        return LocalSigner(bytes.fromhex(value.decode()), now=lambda: int(time.time()))
    except (Invalid, ValueError):
        raise Failure("the secret is no Nostr key", code=os.EX_DATAERR) from None


def _asked() -> bytes:
    """Ask for a key, or read it from a pipe; what is wrong is told without showing it."""
    from oanix.lib.nostr import Invalid, make_secret
    from oanix.lib.nostr.nip19 import decode
    from oanix.services.nostr.bunker import written

    if sys.stdin.isatty():
        text: str = click.prompt("nsec", hide_input=True, err=True)
    else:
        text = sys.stdin.buffer.read(INPUT_MAX).decode("utf-8", "replace")
    text = text.strip()
    try:
        if text.startswith(BUNKER):
            # It will know us by a key that is good for nothing else.
            return written(text, make_secret())
        return (decode(text, "nsec") if text.startswith("nsec1") else _hex(text)).lower().encode()
    except Invalid as error:
        if text.startswith(BUNKER):
            raise Failure(f"this is no bunker: {error.reason}", code=os.EX_DATAERR) from None
        raise Failure(
            "this is no key: it is an nsec, 64 digits of hex, or bunker://…", code=os.EX_DATAERR
        ) from None


def _hex(text: str) -> str:
    from oanix.lib.nostr import Invalid
    from oanix.lib.nostr.event import HEX32

    if not HEX32.fullmatch(text.lower()):
        raise Invalid("no hex")
    return text


def _described(secret: str, value: bytes) -> dict[str, object]:
    """Tell what may be known of a key, which is not shown."""
    from oanix.lib.nostr import Invalid
    from oanix.lib.nostr.nip19 import encode
    from oanix.services.nostr.bunker import Kept

    if value.startswith(b"{"):
        try:
            bunker = Kept.read(value.decode()).bunker
        except (Invalid, ValueError):
            raise Failure("the secret is no Nostr key", code=os.EX_DATAERR) from None
        return {"name": secret, "bunker": bunker.pubkey, "relays": list(bunker.relays)}
    pubkey = _signer(value).pubkey
    return {"name": secret, "npub": encode("npub", pubkey), "pubkey": pubkey}


def _print(told: dict[str, object], as_json: bool) -> None:
    out = Out()
    if as_json:
        out.json(told)
    elif "npub" in told:
        out.line(str(told["npub"]))
    else:
        relays = told["relays"]
        assert isinstance(relays, list)
        out.line(f"bunker {told['bunker']} {' '.join(relays)}")


def _date(at: int | None) -> str:
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at // 10**9))
