"""Management: a relay's owner changes its rules over HTTP (NIP-86, authorized by NIP-98).

What is banned or allowed becomes lines of the policy, which are the one place where rules are.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from attrs import frozen

from oanix.lib.nostr import Event, Invalid, decode, encode
from oanix.lib.nostr.auth import HTTP_WINDOW_S, check_http
from oanix.lib.nostr.event import HEX32
from oanix.services.relay.core import Core
from oanix.services.relay.info import check_setting
from oanix.services.relay.policy import ANY, Condition, Rule
from oanix.services.relay.policy_lines import parse_line
from oanix.services.relay.rule_book import RuleBook

ADMINS: Final = "admins"
USED_MAX: Final = 10_000
REASON_MAX: Final = 200

SETTINGS: Final = {
    "changerelayname": "name", "changerelaydescription": "description", "changerelayicon": "icon",
}  # fmt: skip


@frozen
class _List:
    """A list that is managed: which rules it is, and which condition tells its members."""

    allows: bool
    what: str
    part: str
    said: str

    def line(self, value: str, reason: str) -> str:
        head = f"{'allow' if self.allows else 'deny'} {self.what} {self.part}={value}"
        words = " ".join(reason.split())[:REASON_MAX]
        return f"{head} -- {words}" if words else head


BANNED_KEYS: Final = _List(False, ANY, "author", "pubkey")
ALLOWED_KEYS: Final = _List(True, "write", "author", "pubkey")
BANNED_EVENTS: Final = _List(False, ANY, "id", "id")
ALLOWED_KINDS: Final = _List(True, "write", "kind", "kind")
BANNED_KINDS: Final = _List(False, "write", "kind", "kind")
BLOCKED_ADDRESSES: Final = _List(False, "connect", "address", "ip")

Call = Callable[[Sequence[object]], Awaitable[object]]


class Management:
    """What an admin may do over HTTP."""

    def __init__(self, core: Core, book: RuleBook, now: Callable[[], float]) -> None:
        self._core = core
        self._book = book
        self._now = now
        self._used: dict[str, float] = {}
        self._calls: dict[str, Call] = {
            "supportedmethods": self._supported,
            "banpubkey": self._adds(BANNED_KEYS), "unbanpubkey": self._drops(BANNED_KEYS),
            "listbannedpubkeys": self._lists(BANNED_KEYS),
            "allowpubkey": self._adds(ALLOWED_KEYS), "unallowpubkey": self._drops(ALLOWED_KEYS),
            "listallowedpubkeys": self._lists(ALLOWED_KEYS),
            "banevent": self._adds(BANNED_EVENTS), "allowevent": self._drops(BANNED_EVENTS),
            "listbannedevents": self._lists(BANNED_EVENTS),
            "allowkind": self._moves(BANNED_KINDS, ALLOWED_KINDS),
            "disallowkind": self._moves(ALLOWED_KINDS, BANNED_KINDS),
            "listallowedkinds": self._lists(ALLOWED_KINDS),
            "blockip": self._adds(BLOCKED_ADDRESSES), "unblockip": self._drops(BLOCKED_ADDRESSES),
            "listblockedips": self._lists(BLOCKED_ADDRESSES),
            **{method: self._sets(name) for method, name in SETTINGS.items()},
        }  # fmt: skip

    async def answer(
        self, authorization: str, urls: Sequence[str], body: bytes
    ) -> tuple[int, bytes]:
        """Do what a request asks for: its status, and the JSON of the answer. Raises OSError.

        urls: the ones that a request may be authorized for.
        """
        try:
            event = self._authorized(authorization, urls, body)
            if not body or not event.values("payload"):
                raise Invalid("the authorization needs a payload")
            self._use(event)
        except Invalid as error:
            return 401, _failed(f"unauthorized: {error.reason}")
        if event.pubkey not in admins(self._core):
            return 403, _failed("restricted: this key is no admin of this relay")
        try:
            asked = decode(body)
            if not isinstance(asked, dict) or not isinstance(asked.get("params", []), list):
                raise Invalid("a request is an object with method and params")
            call = self._calls.get(str(asked.get("method")))
            if call is None:
                raise Invalid("this method is not supported; supportedmethods lists those that are")
            return 200, encode({"result": await call(asked.get("params", []))})
        except (Invalid, ValueError) as error:
            reason = error.reason if isinstance(error, Invalid) else str(error)
            return 400, _failed(f"invalid: {reason}")

    def _authorized(self, authorization: str, urls: Sequence[str], body: bytes) -> Event:
        wrong = Invalid("this relay has no address")
        for url in urls:
            try:
                return check_http(authorization, "POST", url, body, int(self._now()))
            except Invalid as error:
                wrong = error
        raise wrong

    def _use(self, event: Event) -> None:
        """Note an authorization, which counts once. Raises Invalid."""
        now = self._now()
        if len(self._used) >= USED_MAX:
            self._used = {name: until for name, until in self._used.items() if until > now}
        if event.id in self._used or len(self._used) >= USED_MAX:
            raise Invalid("this authorization was used before")
        self._used[event.id] = event.created_at + HTTP_WINDOW_S

    async def _supported(self, params: Sequence[object]) -> object:
        return sorted(self._calls)

    def _adds(self, of: _List) -> Call:
        async def call(params: Sequence[object]) -> object:
            value, reason = _member(of, params), str(params[1]) if len(params) > 1 else ""
            self._forget(of, value)
            self._book.first(of.line(value, reason))
            return True

        return call

    def _drops(self, of: _List) -> Call:
        async def call(params: Sequence[object]) -> object:
            self._forget(of, _member(of, params))
            return True

        return call

    def _moves(self, away: _List, to: _List) -> Call:
        async def call(params: Sequence[object]) -> object:
            value = _member(to, params)
            self._forget(away, value)
            self._forget(to, value)
            self._book.first(to.line(value, ""))
            return True

        return call

    def _lists(self, of: _List) -> Call:
        async def call(params: Sequence[object]) -> object:
            found: list[object] = []
            for line in self._book.text.splitlines():
                member = _of(of, line)
                if member is not None and of is ALLOWED_KINDS:
                    found.append(int(member[0]))
                elif member is not None:
                    found.append({of.said: member[0], "reason": member[1]})
            return found

        return call

    def _sets(self, name: str) -> Call:
        async def call(params: Sequence[object]) -> object:
            if len(params) != 1 or not isinstance(params[0], str):
                raise Invalid("this method takes one text")
            self._core.set(name, check_setting(name, params[0]))
            return True

        return call

    def _forget(self, of: _List, value: str) -> None:
        self._book.drop(lambda line: (found := _of(of, line)) is not None and found[0] == value)


def admins(core: Core) -> list[str]:
    """List the keys that manage a relay. Raises OSError."""
    settings = core.settings()
    return settings.get(ADMINS, "").split()


def _failed(sentence: str) -> bytes:
    return encode({"error": sentence})


def _member(of: _List, params: Sequence[object]) -> str:
    given = params[0] if params else None
    if of.part == "kind" and type(given) is int:
        given = str(given)
    if not isinstance(given, str) or not given or any(c.isspace() or c == "," for c in given):
        raise Invalid(f"the first parameter is the {of.said}")
    if of.part in ("author", "id") and not HEX32.fullmatch(given):
        raise Invalid(f"a {of.said} is 64 digits of lower-case hex")
    if parse_line(of.line(given, "")) is None:
        raise Invalid(f"the first parameter is the {of.said}")
    return given


def _of(of: _List, line: str) -> tuple[str, str] | None:
    """Read a line as a member of a list, with the reason; None for any other line."""
    rule = parse_line(line)
    if not isinstance(rule, Rule) or (rule.allows, rule.what) != (of.allows, of.what):
        return None
    words = line.partition(" -- ")[0].split()
    if len(words) != 3 or rule.condition == Condition():
        return None
    name, _, value = words[2].partition("=")
    return (value, rule.reason) if name == of.part and "," not in value else None
