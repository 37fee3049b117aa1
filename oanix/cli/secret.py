"""`oanix secret`: set, list, replace and remove secrets, and unlock the vault that holds them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from oanix.cli.complete import mountpoints
from oanix.cli.failures import Failure
from oanix.cli.live import find_mount
from oanix.cli.output import Out, complain
from oanix.cli.passphrase import (
    new_key,
    open_vault,
    passphrase_of,
    refused_by_server,
    unlock,
    unlock_or_make,
)
from oanix.env import state_folder
from oanix.env.state import make_state
from oanix.lib.vault import (
    KEYRING,
    PASSPHRASE,
    VALUE_LONGEST,
    SecretInfo,
    SecretRule,
    Template,
    Vault,
    check_name,
    check_value,
)

EPILOG = """\b
Examples:
  oanix secret set github --url 'https://api.github.com/**' --header 'Authorization: Bearer {}'
  oanix secret list
  oanix secret rotate github < new-token.txt"""

SET_EPILOG = """\b
Examples:
  oanix secret set github --url 'https://api.github.com/**' --method GET,POST \\
      --header 'Authorization: Bearer {}'
  oanix secret set weather --url https://api.weather.example/ --query 'api_key={}' < key.txt
  oanix secret set wiki --url 'https://wiki.example.com/**' --basic robot"""

LIST_EPILOG = """\b
Examples:
  oanix secret list
  oanix secret list --json | jq -r '.[] | select(.uses == 0) | .name'"""

INFO_EPILOG = """\b
Examples:
  oanix secret info github"""

ROTATE_EPILOG = """\b
Examples:
  oanix secret rotate github
  new-token | oanix secret rotate github"""

RULE_EPILOG = """\b
Examples:
  oanix secret rule github --url 'https://api.github.com/repos/**' --method GET \\
      --header 'Authorization: Bearer {}'"""

REMOVE_EPILOG = """\b
Examples:
  oanix secret remove github"""

PASSWD_EPILOG = """\b
Examples:
  oanix secret passwd
  oanix secret passwd --to keyring
  oanix secret passwd --passphrase-file old.txt --new-passphrase-file new.txt"""

UNLOCK_EPILOG = """\b
Examples:
  oanix secret unlock ~/mnt"""

CTL = "cap/secrets/ctl"
STATUS = "cap/secrets/status"

F = TypeVar("F", bound=Callable[..., Any])


@click.group(short_help="Keep secrets that are used and never shown.", epilog=EPILOG)
def secret() -> None:
    """Keep secrets that programs use through /cap/http and never see.

    A rule binds each to hosts, methods, and a header or query parameter. No command shows a value.
    """


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of the secrets."""
    with _opened() as vault:
        return [
            CompletionItem(info.name, help=info.rule)
            for info in vault.list()
            if info.name.startswith(incomplete)
        ]


def _takes_rule(command: F) -> F:
    for option in (
        click.option("--basic", metavar="USER", help="Send it as the password of basic auth."),
        click.option("--query", metavar="NAME=TEXT", help="Send it in the query; {} is the value."),
        click.option(
            "--header", metavar="NAME: TEXT", help="Send it in a header; {} is the value."
        ),
        click.option(
            "--method", "methods", metavar="M,...", default="*", help="Only with these methods."
        ),
        click.option("--url", metavar="PATTERN", help="Where it may go, as https://HOST/PATH/**."),
    ):
        command = option(command)
    return command


_takes_file = click.option(
    "--passphrase-file", "file", metavar="FILE", help="Read the passphrase of the vault from FILE."
)
_takes_name = click.argument("name", shell_complete=_names)


@secret.command("set", short_help="Set a secret.", epilog=SET_EPILOG)
@_takes_rule
@_takes_file
@_takes_name
def set_(name: str, file: str | None, **words: Any) -> None:
    """Set the secret NAME: asks for its value, or reads it from the standard input.

    A new one needs --url and one of --header, --query and --basic; without them, an old one keeps
    its rule. The first secret makes the vault: kept by the OS keyring, else by a passphrase.
    """
    check_name(name)
    rule = _rule(**words)
    with _opened(make=True) as vault:
        if rule is None and name not in vault.names():
            raise click.UsageError(
                "a new secret needs --url and one of --header, --query and --basic"
            )
        value = _value(name)
        if rule is not None:
            rule.template.check(check_value(value))
        unlock_or_make(vault, file)
        vault.set(name, value, rule)
        complain(f"oanix: set {name}: {vault.info(name).rule}")


@secret.command(short_help="Replace a secret's value.", epilog=ROTATE_EPILOG)
@_takes_file
@_takes_name
def rotate(name: str, file: str | None) -> None:
    """Replace the value of the secret NAME: asks for it, or reads it from the standard input."""
    with _opened() as vault:
        vault.info(name)
        value = _value(name)
        unlock(vault, file)
        vault.rotate(name, value)


@secret.command(short_help="Bind a secret to something else.", epilog=RULE_EPILOG)
@_takes_rule
@_takes_file
@_takes_name
def rule(name: str, file: str | None, **words: Any) -> None:
    """Replace the rule of the secret NAME."""
    new = _rule(**words)
    if new is None:
        raise click.UsageError("give --url and one of --header, --query and --basic")
    with _opened() as vault:
        vault.info(name)
        unlock(vault, file)
        vault.rule(name, new)


@secret.command("list", short_help="List the secrets.", epilog=LIST_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_(as_json: bool) -> None:
    """List the secrets: names, rules, dates and uses; never a value."""
    with _opened() as vault:
        found = vault.list()
    out = Out()
    if as_json:
        out.json([_object(info) for info in found])
        return
    told = [info.facts() for info in found]
    columns = ("name", "rotated", "last-used", "uses", "rule")
    if told:
        heads = [column.upper().replace("-", " ") for column in columns]
        out.table(heads, ([facts[column] for column in columns] for facts in told))


@secret.command(short_help="Show what is known of a secret.", epilog=INFO_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@_takes_name
def info(name: str, as_json: bool) -> None:
    """Show what is known of the secret NAME; never its value."""
    with _opened() as vault:
        found = vault.info(name)
    out = Out()
    if as_json:
        out.json(_object(found))
        return
    for key, value in found.facts().items():
        # Whether it can be used is for the server to say, which has the key.
        if key != "state":
            out.line(f"{key} {value}")


@secret.command(short_help="Remove secrets.", epilog=REMOVE_EPILOG)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=_names)
def remove(names: tuple[str, ...]) -> None:
    """Remove secrets. Their values are gone for good."""
    with _opened() as vault:
        for name in names:
            vault.remove(name)


@secret.command(short_help="Change the passphrase of the vault.", epilog=PASSWD_EPILOG)
@click.option(
    "--to", "kind", type=click.Choice([KEYRING, PASSPHRASE]), help="Keep the vault by this instead."
)
@click.option("--new-passphrase-file", "new", metavar="FILE", help="Read the new one from FILE.")
@_takes_file
def passwd(kind: str | None, new: str | None, file: str | None) -> None:
    """Keep the vault by another passphrase, or by another key of the OS keyring.

    The secrets stay; what knew the old key cannot unlock the vault any more.
    """
    with _opened() as vault:
        kept = vault.kept()
        if kept is None:
            raise _no_vault()
        old = unlock(vault, file)
        kind = kind or (PASSPHRASE if new else kept.kind)
        # The variable names the file of the old passphrase, which is no new one.
        vault.protect(new_key(kind, new, named=False), old)
    complain(f"oanix: the vault is now kept by the new {kind}")


@secret.command("unlock", short_help="Unlock the vault of a mount.", epilog=UNLOCK_EPILOG)
@_takes_file
@click.argument("mountpoint", shell_complete=mountpoints)
def unlock_mount(mountpoint: str, file: str | None) -> None:
    """Unlock the vault of the server at MOUNTPOINT, which has to mount secrets at /cap/secrets."""
    mountpoint = find_mount(mountpoint)
    told = _status(mountpoint)
    if told.get("vault") == "none":
        raise _no_vault()
    if told.get("vault") == "unlocked":
        complain("oanix: the vault is unlocked already")
        return
    kind = told.get("kept-by", "")
    line = f"unlock {passphrase_of(file)}" if kind == PASSPHRASE else "unlock"
    control = os.open(os.path.join(mountpoint, CTL), os.O_WRONLY)
    try:
        os.write(control, f"{line}\n".encode())
    except OSError as error:
        raise refused_by_server(error, kind, mountpoint) from None
    finally:
        os.close(control)


def _status(mountpoint: str) -> dict[str, str]:
    try:
        with open(os.path.join(mountpoint, STATUS), encoding="utf-8") as file:
            return dict(line.rstrip("\n").split(" ", 1) for line in file)
    except FileNotFoundError:
        raise Failure(
            f"the namespace at {mountpoint} has no /cap/secrets",
            "add `mount secrets /cap/secrets` to its recipe",
        ) from None


def _no_vault() -> Failure:
    return Failure("there is no vault yet", "the first `oanix secret set` makes it")


@contextmanager
def _opened(*, make: bool = False) -> Iterator[Vault]:
    if make:
        make_state(state_folder())
    vault = open_vault()
    try:
        yield vault
    finally:
        vault.close()


def _rule(
    url: str | None, methods: str, header: str | None, query: str | None, basic: str | None
) -> SecretRule | None:
    given = [
        make(text)
        for make, text in (
            (Template.header, header),
            (Template.query, query),
            (Template.basic, basic),
        )
        if text is not None
    ]
    if url is None and not given and methods == "*":
        return None
    if url is None or len(given) != 1:
        raise click.UsageError("a rule is --url and one of --header, --query and --basic")
    return SecretRule.of(methods, url, given[0])


def _value(name: str) -> bytes:
    """Ask for a value, or read it from a pipe, and refuse what cannot be one."""
    if sys.stdin.isatty():
        asked: str = click.prompt(f"value of {name}", hide_input=True, err=True)
        value = asked.encode("utf-8", "surrogateescape")
    else:
        value = sys.stdin.buffer.read(VALUE_LONGEST + 2).removesuffix(b"\n")
    check_value(value)
    return value


def _object(info: SecretInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "rule": info.rule,
        "created_ns": info.created,
        "rotated_ns": info.rotated,
        "last_used_ns": info.last_used,
        "uses": info.uses,
    }
