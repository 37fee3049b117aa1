"""Telling: what was asked of the web for somebody, as a record of it shows: queries are masked."""

from typing import TYPE_CHECKING

from oanix.operation import Deed, did

if TYPE_CHECKING:
    from oanix.caller import Caller
    from oanix.lib.url import Url
    from oanix.lib.web import Exchange
    from oanix.namespace import Namespace


def answered(
    namespace: "Namespace", caller: "Caller", asked: "tuple[str, Url]", exchange: "Exchange",
    size: int, seconds: float,
) -> None:  # fmt: skip
    """Let those who watch know of an answer, and how much of it was taken."""
    said = f"{exchange.status} {exchange.reason}".rstrip()
    did(namespace, caller, Deed("http_request", _asked(*asked), f"{said}, {size:,} bytes",
                                seconds=seconds))  # fmt: skip


def failed(
    namespace: "Namespace", caller: "Caller", asked: "tuple[str, Url]", error: OSError
) -> None:
    """Let those who watch know of a request that came to nothing."""
    did(namespace, caller, Deed("http_request", _asked(*asked), error=error))


def _asked(method: str, url: "Url") -> dict[str, object]:
    return {"method": method, "url": url.masked()}
