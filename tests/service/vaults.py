"""Vaults for tests: quick keys, and a keyring that is an object."""

from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from oanix.lib.url import Url
from oanix.lib.vault import FILE, Cost, Passphrase, SecretRule, Vault

CHEAP = Cost(n=1 << 4)
PHRASE = Passphrase("correct horse", CHEAP)
VALUE = b"ghp_0123456789abcdefghij"
RULE = SecretRule.parse("GET,POST https://api.example.com/** header Authorization: Bearer {}")
URL = Url.parse("https://api.example.com/repos?page=2")


@define
class Ring:
    """A keyring in memory, with the interface that those of the operating systems have."""

    items: dict[tuple[str, str], str] = field(factory=dict)

    def get_password(self, service: str, username: str) -> str | None:
        return self.items.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.items[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.items[service, username]


def opened(folder: Path, **settings: Callable[[], int]) -> Vault:
    """Open the vault of a folder, locked."""
    return Vault.open(str(folder / FILE), **settings)  # type: ignore[arg-type]


def made(folder: Path, **settings: Callable[[], int]) -> Vault:
    """Make a vault, unlocked."""
    vault = opened(folder, **settings)
    vault.protect(PHRASE)
    return vault


def sent(vault: Vault, url: str = str(URL), method: str = "GET") -> str:
    """Give the Authorization that a request gets, or nothing."""
    attached = vault.attach(method, Url.parse(url), (("Accept", "*/*"),))
    return dict(attached.headers).get("Authorization", "")
