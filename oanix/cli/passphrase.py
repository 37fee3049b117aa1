"""Passphrase: where the key of the vault comes from: the OS keyring, a file, or the terminal."""

import errno
import os
import sys
from collections.abc import Callable

import click

from oanix.cli.failures import Failure, sentence
from oanix.cli.output import complain, escape
from oanix.env import state_folder
from oanix.lib.vault import (
    FILE,
    KEYRING,
    PASSPHRASE,
    Backend,
    Kept,
    Key,
    Passphrase,
    RingKey,
    Vault,
    system_keyring,
)

VARIABLE = "OANIX_PASSPHRASE_FILE"
"""The environment variable that names a file with the passphrase; never the passphrase itself."""

LONGEST = 4096

REMEDY = (
    f"put the passphrase into a file of mode 600 and name it by --passphrase-file or ${VARIABLE}"
)

Keyring = Callable[[], Backend | None]


def open_vault() -> Vault:
    """Open the vault of the state folder, locked. Raises OSError."""
    return Vault.open(os.path.join(state_folder(), FILE))


def unlock(vault: Vault, file: str | None, keyring: Keyring = system_keyring) -> Key:
    """Unlock a vault that exists, and give the key that did it.

    Raises Failure where nobody can be asked, OSError EACCES for a wrong key.
    """
    kept = vault.kept()
    assert kept is not None
    key = _key_of(kept, file, keyring)
    vault.unlock(key)
    return key


def unlock_or_make(vault: Vault, file: str | None, keyring: Keyring = system_keyring) -> None:
    """Unlock a vault, or make one: kept by the OS keyring where there is one and no file is named.

    Raises as `unlock`.
    """
    if vault.kept() is not None:
        unlock(vault, file, keyring)
        return
    key = new_key(None, file, keyring)
    vault.protect(key)
    kind = "the OS keyring" if isinstance(key, RingKey) else "this passphrase"
    complain(f"oanix: made a vault, which is kept by {kind}")


def key_for_server(
    vault: Vault,
    file: str | None = None,
    keyring: Keyring = system_keyring,
    *,
    ask: bool = True,
    mountpoint: str = "MOUNTPOINT",
) -> Key | None:
    """Get the key of a vault before a server goes to the background; where that fails, warn once.

    The keyring is asked silently; a passphrase is read from its file or, where the standard input
    is a terminal, asked for. A vault that does not exist yet is no reason for a warning, nor, where
    nobody is to be asked, is a passphrase.
    """
    kept = vault.kept()
    if kept is None:
        return None
    try:
        if kept.kind == PASSPHRASE and not _file(file) and not (ask and sys.stdin.isatty()):
            if not ask:
                return None
            raise Failure("nobody can be asked for its passphrase")
        return unlock(vault, file, keyring)
    except (OSError, Failure) as error:
        said = sentence(error) if isinstance(error, OSError) else error.sentence
        complain(
            f"oanix: warning: the vault stays locked, {escape(said)}; requests that need a secret "
            f"fail until: oanix secret unlock {escape(mountpoint)}"
        )
        return None


def new_key(
    kind: str | None, file: str | None, keyring: Keyring = system_keyring, *, named: bool = True
) -> Key:
    """Choose a key for a new vault, or a new one for an old vault. Raises Failure, OSError EINVAL.

    kind: `keyring` or `passphrase`; None takes the keyring where there is one, unless a file was
    named. named: whether the environment may name the file too.
    """
    file = _file(file) if named else file
    if kind == KEYRING or (kind is None and not file):
        backend = keyring()
        if backend is not None:
            return RingKey(backend)
        if kind == KEYRING:
            raise Failure(
                "no OS keyring can be used here",
                "keep the vault by a passphrase",
                os.EX_UNAVAILABLE,
            )
    key = Passphrase(_passphrase(file, "new passphrase of the vault", twice=True))
    key.check()
    return key


def passphrase_of(file: str | None) -> str:
    """Get the passphrase of a vault that exists. Raises Failure."""
    return _passphrase(_file(file), "passphrase of the vault", twice=False)


def _key_of(kept: Kept, file: str | None, keyring: Keyring) -> Key:
    if kept.kind != KEYRING:
        return Passphrase(passphrase_of(file))
    backend = keyring()
    if backend is None:
        raise Failure(
            "the OS keyring keeps this vault, and none can be used here",
            "log in where the keyring runs; see what is missing: python -m keyring diagnose",
            os.EX_UNAVAILABLE,
        )
    return RingKey(backend)


def _file(given: str | None) -> str | None:
    return given or os.environ.get(VARIABLE) or None


def _passphrase(file: str | None, what: str, *, twice: bool) -> str:
    if file:
        return read_file(file)
    if not _terminal():
        raise Failure(f"nobody can be asked for the {what}: no terminal", REMEDY, os.EX_UNAVAILABLE)
    asked: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
    return asked


def _terminal() -> bool:
    # The standard input may be a value in a pipe; getpass(3) asks at the terminal all the same.
    if sys.stdin.isatty():
        return True
    if not sys.stderr.isatty():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def read_file(path: str) -> str:
    """Read a passphrase, without the newline at its end.

    Raises Failure for a file that others may read, that is empty, too long or no text.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_mode & 0o077 or found.st_uid not in (os.geteuid(), 0):
                raise Failure(
                    f"the passphrase file {path} is open to other users", f"chmod 600 {path}",
                    os.EX_NOPERM,
                )  # fmt: skip
            data = file.read(LONGEST + 1)
    except OSError as error:
        error.filename = path
        raise Failure(
            f"cannot read the passphrase file {sentence(error)}", REMEDY, os.EX_NOINPUT
        ) from None
    if len(data) > LONGEST:
        raise Failure(f"the passphrase file {path} holds more than {LONGEST} bytes", REMEDY)
    try:
        text = data.removesuffix(b"\n").decode()
    except UnicodeDecodeError:
        raise Failure(f"the passphrase file {path} is no text in UTF-8", REMEDY) from None
    if not text:
        raise Failure(f"the passphrase file {path} is empty", REMEDY, os.EX_NOINPUT)
    if "\n" in text or "\r" in text or "\0" in text:
        raise Failure(f"the passphrase file {path} holds more than one line", REMEDY)
    return text


def refused_by_server(error: OSError, kind: str, mountpoint: str) -> Failure:
    """Say why a server did not unlock: FUSE carries the number alone."""
    if error.errno == errno.EACCES and kind == PASSPHRASE:
        return Failure("this is not the passphrase of the vault")
    return Failure(
        f"the server at {mountpoint} could not unlock its vault: {sentence(error)}",
        f"see why: cat {mountpoint}/dev/errstr",
    )
