"""The service: one engine, one policy, and the views of them."""

import errno
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import trio

from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit import Quota, ViewedService
from oanix.kit.conversation import QUOTA
from oanix.lib.policy import Layer, Policy
from oanix.lib.policy.limits import parse_size
from oanix.lib.vault import Vault
from oanix.lib.web import Web
from oanix.node import Node
from oanix.services.http.body import Source
from oanix.services.http.call import Budget
from oanix.services.http.rule_book import RuleBook
from oanix.services.http.view import HttpView

log = logging.getLogger(__name__)

LINGER_S = 1.0
"""How long the end of a body may come after its last byte."""

THREADS = 2
"""Threads that read and write large JSON."""


class HttpFs(ViewedService[Layer]):
    """The web, under the rules of `policy`.

    get/https/HOST/REST  one GET: cat it. REST is the rest of the URL, / as %2F, % as %25
                         (`oanix url URL` prints the path)
    call                 write {"url": "https://…"} and a newline, read a line of JSON
    new                  read it for the number N of a conversation; then N/ has
      ctl                  url, method, header, timeout, follow, length, start, send, close
      url method headers   what to send; body takes what is uploaded
      response             the answer as it comes: opening it sends the request
      response_headers     status  error
    policy               the rules: allow GET,HEAD https://api.github.com/** and the like
    log                  a line for each request

        cat get/https/example.com/%2F
        exec 3<>call
        echo '{"url": "https://example.com/", "method": "HEAD"}' >&3
        read -r answer <&3
        echo 'allow GET https://example.com/**' >> policy

    A refusal is EACCES, and /dev/why has the rule that would allow it.
    """

    name = "http"
    capability = True
    options: ClassVar[Mapping[str, str]] = {
        "hosts": "only these hosts: a,*.b",
        "methods": "only these methods: GET,HEAD",
        "rate": "so many requests: 10/s",
        "size": "answers of at most: 10M",
        "time": "requests of at most: 30s",
        "cache": "of a whole mount: keep answers in so much memory: 64M",
    }

    def __init__(
        self,
        folder: Path | None = None,
        vault: Vault | None = None,
        web: Web | None = None,
        *,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """Make it. folder: where `policy` is kept; without one it is kept in memory."""
        super().__init__(now=now)
        self.web = Web(Policy(), vault=vault) if web is None else web
        self.policy: Policy = self.web.policy
        self.book = RuleBook(self.policy, folder)
        self.budget = Budget()
        self.requests = Budget(what="requests wait to be sent")
        self.limiter = trio.CapacityLimiter(THREADS)
        self._get_quota = Quota(QUOTA, "files under get open; close some")
        self._call_quota = Quota(QUOTA, "times call open; close some")
        self.root = self.view(()).root

    def make_view(self, layers: tuple[Layer, ...]) -> HttpView:
        """Make a view."""
        return HttpView(self, layers)

    def layer_of(self, options: Mapping[str, str]) -> Layer:
        """Make the rules of these options."""
        return Layer.of_options(options)

    def narrow(self, node: Node, options: Mapping[str, str]) -> Node:
        """Give the node as seen under more rules. Raises OSError EINVAL."""
        rules = {option: value for option, value in options.items() if option != "cache"}
        narrowed = super().narrow(node, rules) if rules else node
        if "cache" in options:
            self._use_cache(node, options["cache"])
        return narrowed

    def _use_cache(self, node: Node, text: str) -> None:
        # It is one for all views, so no bind of one of them may choose it.
        if node is not self.root or self.started:
            raise fault(errno.EINVAL, "cache= is an option of the mount itself, not of a bind")
        try:
            size = parse_size(text)
        except ValueError as error:
            raise fault(errno.EINVAL, f"cache= {error}") from None
        self.web.use_cache(size)

    def status(self) -> dict[str, str]:
        """Tell how it is."""
        rules = len(self.policy.base.rules.rules)
        told = {key: str(value) for key, value in self.web.status().items()}
        told |= {
            "rules": str(rules),
            "conversations": str(self.conversations),
        }
        return told | ({"warning": self.book.warning} if self.book.warning else {})

    # Life ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the engine, and end what is idle; leaving ends everything."""
        async with self.web.running(), super().running():
            yield

    def enter(self, caller: Caller) -> Callable[[], None]:
        """Count a file under `get`; gives what counts it out. Raises OSError EMFILE."""
        self._get_quota.hold(caller)
        return lambda: self._get_quota.drop(caller)

    def enter_call(self, caller: Caller) -> Callable[[], None]:
        """Count an open `call`; gives what counts it out. Raises OSError EMFILE."""
        self._call_quota.hold(caller)
        return lambda: self._call_quota.drop(caller)

    def let_go(self, source: Source) -> None:
        """Close what was read to its length: with its end, a moment later, a connection is kept."""
        if self.started:
            self.start(_linger, source)
        else:
            source.close()


async def _linger(source: Source) -> None:
    try:
        with trio.move_on_after(LINGER_S):
            await source.read(1)
    except OSError as error:
        log.debug("a connection is not kept: %s", error)
    finally:
        source.close()
