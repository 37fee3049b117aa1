"""Keeping: the relays and settings that a user has chosen."""

import errno
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import evolve, frozen

from oanix.errors import fault
from oanix.lib.url import Url
from oanix.services.nostr.pool import OWN
from oanix.store import Store

RELAYS_MAX: Final = 100


@frozen
class Chosen:
    """A relay that the user has chosen: for what, and whether it may be told who he is (NIP-42)."""

    url: str
    reads: bool = True
    writes: bool = True
    auth: bool = True

    @property
    def use(self) -> str:
        """Say for what, as `relays` shows it."""
        return {(True, True): "rw", (True, False): "r", (False, True): "w"}.get(
            (self.reads, self.writes), "-"
        )


class Choice:
    """The relays and settings, in memory and on the disk. What is set is kept at once."""

    def __init__(self, store: Store) -> None:
        """Read them. Raises OSError."""
        self._store = store
        self._relays: dict[str, Chosen] = {}
        for url, reads, writes, auth in store.execute(
            "SELECT url, reads, writes, auth FROM relays"
        ):
            self._relays[str(url)] = Chosen(str(url), bool(reads), bool(writes), bool(auth))
        self._settings = {
            str(name): str(value) for name, value in store.execute("SELECT * FROM settings")
        }

    def __iter__(self) -> Iterator[Chosen]:
        return iter(list(self._relays.values()))

    def __len__(self) -> int:
        return len(self._relays)

    def find(self, url: str) -> Chosen | None:
        """Find a relay that was chosen."""
        return self._relays.get(url)

    def urls(self, *, reads: bool = False, writes: bool = False) -> list[str]:
        """List the relays to read from, or to write to; our own where none was chosen."""
        if not self._relays:
            return [OWN]
        return [
            one.url
            for one in self._relays.values()
            if (reads and one.reads) or (writes and one.writes)
        ]

    def add(self, text: str) -> None:
        """Choose a relay: `URL [read|write]`. Raises OSError EINVAL, ENOSPC."""
        url, _, use = text.partition(" ")
        use = use.strip()
        if use not in ("", "read", "write"):
            raise fault(errno.EINVAL, "write: relay add wss://relay.example.com [read|write]")
        url = address(url)
        if url not in self._relays and len(self._relays) >= RELAYS_MAX:
            raise fault(errno.ENOSPC, f"there are {RELAYS_MAX} relays; delete one first")
        before = self._relays.get(url, Chosen(url))
        self._put(evolve(before, reads=use != "write", writes=use != "read"))

    def drop(self, text: str) -> str:
        """Use a relay no more, and give its URL. Raises OSError ENOENT."""
        url = address(text)
        if url not in self._relays:
            raise fault(errno.ENOENT, f"{url} is not among the relays")
        self._store.execute("DELETE FROM relays WHERE url = ?", url)
        del self._relays[url]
        return url

    def let_auth(self, text: str) -> None:
        """Say whether a relay may be told who the user is: `URL on|off`. Raises OSError."""
        url, _, said = text.partition(" ")
        url = address(url)
        if said.strip() not in ("on", "off"):
            raise fault(errno.EINVAL, "write: auth wss://relay.example.com on|off")
        if url not in self._relays:
            raise fault(errno.ENOENT, f"{url} is not among the relays")
        self._put(evolve(self._relays[url], auth=said.strip() == "on"))

    def _put(self, one: Chosen) -> None:
        self._store.execute(
            "INSERT OR REPLACE INTO relays VALUES (?, ?, ?, ?)",
            one.url, int(one.reads), int(one.writes), int(one.auth),
        )  # fmt: skip
        self._relays[one.url] = one

    def setting(self, name: str, default: str) -> str:
        """Give a setting."""
        return self._settings.get(name, default)

    def set(self, name: str, value: str) -> None:
        """Keep a setting. Raises OSError."""
        self._store.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)
        self._settings[name] = value


def address(text: str) -> str:
    """Read the URL of a relay, in its one form. Raises OSError EINVAL."""
    if text == OWN:
        return OWN
    if "://" not in text:
        raise fault(
            errno.EINVAL, f"{text[:60]!r} is no relay; write its URL: wss://relay.example.com"
        )
    try:
        url = Url.parse(text.strip())
    except OSError as error:
        raise fault(errno.EINVAL, f"{text[:60]!r} is no relay: {error.strerror}") from None
    if url.scheme not in ("ws", "wss"):
        raise fault(errno.EINVAL, f"a relay is at wss:// or ws://, and not {url.scheme}://")
    return str(url)


def addresses(texts: Sequence[str]) -> list[str]:
    """Read URLs that others wrote; what is none is left out."""
    found = []
    for text in texts:
        try:
            found.append(address(text))
        except OSError:
            continue
    return list(dict.fromkeys(url for url in found if url != OWN))
