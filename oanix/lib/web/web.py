"""Web: what services ask. Its engine, and the libraries beneath, are loaded by the first request.

They take a tenth of a second, which a command that asks for nothing should not wait.
"""

import errno
import random as chance
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from attrs import field, frozen

from oanix.errors import fault
from oanix.kit import Ring
from oanix.lib.policy import Policy
from oanix.lib.url import Url
from oanix.lib.web.model import Asker, Connected, Headers, Request, WebLimits
from oanix.lib.web.resolve import Resolver

if TYPE_CHECKING:
    from oanix.lib.vault import Vault
    from oanix.lib.web.engine import Engine
    from oanix.lib.web.exchange import Exchange


@frozen(eq=False)
class Setup:
    """What an engine is made of. log: a line of JSON for each hop and each refusal."""

    policy: Policy
    vault: "Vault | None"
    resolver: Resolver | None
    ssl_context: ssl.SSLContext | None
    limits: WebLimits
    now: Callable[[], float]
    random: Callable[[], float]
    log: Ring = field(factory=Ring)


class Web:
    """Requests under one policy, for any number of askers at once.

    Nothing of one request is left for the next but connections: no cookie, no credentials. No
    proxy and no variable of the environment is honoured, except SSL_CERT_FILE and SSL_CERT_DIR.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        vault: "Vault | None" = None,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        limits: WebLimits | None = None,
        cache_bytes: int = 0,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """Make it. The clock gives seconds since the epoch."""
        self._setup = Setup(
            policy, vault, resolver, ssl_context, limits or WebLimits(), now, random
        )
        self._cache_bytes = cache_bytes
        self._nursery: trio.Nursery | None = None
        self._engine: Engine | None = None
        self._sent = 0

    @property
    def policy(self) -> Policy:
        """The rules."""
        return self._setup.policy

    @property
    def log(self) -> Ring:
        """A line of JSON for each hop and each refusal."""
        return self._setup.log

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run for as long as the block; at its end what streams is cancelled and closed."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                engine, self._engine, self._nursery = self._engine, None, None
                nursery.cancel_scope.cancel()
                if engine is not None:
                    engine.stop()
                    with trio.CancelScope(shield=True):
                        await engine.close()

    def use_cache(self, size: int) -> None:
        """Keep answers in so many bytes of memory, from now on."""
        self._cache_bytes = size
        if self._engine is not None:
            self._engine.use_cache(size)

    def status(self) -> dict[str, object]:
        """Tell what was sent so far, and what the engine has, once there is one."""
        engine = self._engine
        return {"sent": self._sent, **(engine.status() if engine is not None else {})}

    async def send(self, request: Request, asker: Asker) -> "Exchange":
        """Send a request and give the answer once its headers have come.

        Raises OSError: Denied (EACCES), EINVAL for what cannot be asked, ETIMEDOUT, ECONNREFUSED,
        EHOSTUNREACH, ECONNRESET, EMSGSIZE, EPROTO, ELOOP, and EAGAIN for a rate that is used up.
        Cancelled or failed, it leaves nothing open.
        """
        engine = self._running()
        self._sent += 1
        return await engine.send(request, asker)

    async def connect(self, url: Url, asker: Asker, headers: Headers = ()) -> Connected:
        """Connect for a WebSocket (ws, wss): judged as a GET, to a checked address, with TLS.

        The caller closes the stream. Raises OSError as `send`.
        """
        return await self._running().connect(url, asker, headers)

    def _running(self) -> "Engine":
        if self._nursery is None:
            raise fault(errno.ESHUTDOWN, "the web is not running")
        if self._engine is None:
            from oanix.lib.web.engine import Engine

            self._engine = Engine(self._setup, self._cache_bytes, self._nursery)
        return self._engine
