"""Talk: one conversation, a request that is put together, sent, and answered (Plan 9's webfs(4)).

idle → sending → waiting → receiving → done, or failed from anywhere. What can be changed is changed
while it is idle, done or failed, and makes it idle again.
"""

import errno
import logging
from enum import Enum
from typing import TYPE_CHECKING

import trio

from oanix.bell import Bell
from oanix.errors import fault
from oanix.kit import Conversation, Opening
from oanix.lib.web import Asker, Exchange
from oanix.services.http.body import Body
from oanix.services.http.fields import Headers, check_size, method_of
from oanix.services.http.message import Message
from oanix.services.http.telling import answered, failed
from oanix.services.http.upload import Upload

if TYPE_CHECKING:
    from oanix.lib.policy import Layer
    from oanix.lib.url import Url
    from oanix.services.http.view import HttpView

log = logging.getLogger(__name__)

SETTLE_S = 0.2
"""How long a request that was started waits for the last close of its body, which comes late."""


class State(Enum):
    """What `status` tells."""

    IDLE = "idle"
    UNDER_WAY = "waiting"
    RECEIVING = "receiving"
    DONE = "done"
    FAILED = "failed"


class Talk:
    """A request and its answer."""

    def __init__(self, view: "HttpView", conversation: Conversation) -> None:
        self.view = view
        self.conversation = conversation
        self.method: str | None = None
        self.url: Url | None = None
        self.headers: Headers = ()
        self.timeout_s: float | None = None
        self.follow = True
        self.length: int | None = None
        self.upload: Upload | None = None
        self.writers = 0
        self.readers = 0
        self.state = State.IDLE
        self.error: OSError | None = None
        self.exchange: Exchange | None = None
        self.body: Body | None = None
        self.bell = Bell()
        self._layers: tuple[Layer, ...] = ()
        self._used = False
        self._work: trio.CancelScope | None = None
        self._began = 0.0
        self._elapsed: float | None = None
        self._asked: tuple[Opening, str, Url] | None = None
        conversation.at_end.append(self.end)

    # Putting it together -------------------------------------------------------------------------

    def note(self, opening: Opening) -> None:
        """Learn through which namespace it is used: all of them narrow what it may ask."""
        self._used = True
        for layer in self.view.layers_of(opening.namespace):
            if layer not in self._layers:
                self._layers += (layer,)

    def check_narrow(self, opening: Opening) -> None:
        """Refuse to show it in a namespace that is narrower than those that have used it.

        Their answers, and the headers they send, are what it may not ask for. Raises EACCES.
        """
        if self._used and any(
            layer not in self._layers for layer in self.view.layers_of(opening.namespace)
        ):
            raise fault(
                errno.EACCES,
                "this conversation was used under wider rules than those here; read `new` again",
            )

    @property
    def under_way(self) -> bool:
        """Whether it was sent, and its answer is not complete."""
        return self.state in (State.UNDER_WAY, State.RECEIVING)

    def check_idle(self) -> None:
        """Refuse a change. Raises OSError EBUSY while it is under way, ENOENT after its end."""
        if self.conversation.ended:
            raise fault(errno.ENOENT, "the conversation has ended; read `new` again")
        if self.under_way:
            raise fault(
                errno.EBUSY, "the request is under way; wait for its answer, or write close to ctl"
            )

    def change(self, opening: Opening) -> None:
        """Note a change: what the last request brought is let go. Raises as `check_idle`."""
        self.check_idle()
        self.note(opening)
        self._forget()

    def _forget(self) -> None:
        self.state = State.IDLE
        self.error = None
        self.exchange = None
        if self.body is not None:
            self.body.close()
            self.body = None
        self._elapsed = None

    def set_headers(self, headers: Headers) -> None:
        """Take the headers. Raises OSError EMSGSIZE."""
        check_size(headers)
        self.headers = headers

    def new_upload(self, opening: Opening, *, afresh: bool) -> Upload:
        """Give the body that is to be written. Raises OSError EBUSY while another one is sent."""
        upload = self.upload
        if self.under_way:
            self.check_narrow(opening)
        if upload is not None and not upload.complete and not (afresh and upload.written):
            return upload
        self.change(opening)
        self.upload = Upload(self.length)
        return self.upload

    # Sending -------------------------------------------------------------------------------------

    def start(self, opening: Opening, *, whole: bool) -> None:
        """Send the request. whole: the body ends here. Raises OSError EINVAL, EBUSY."""
        self.check_idle()
        self.note(opening)
        if self.url is None:
            raise fault(errno.EINVAL, "write an address to url first")
        if self.upload is None and self.length:
            self.upload = Upload(self.length)
        upload = self.upload
        if upload is not None:
            # With a length that was promised, a writer may be yet to come.
            upload.begin(whole=whole or (upload.length is None and not self.writers))
        self._forget()
        method = self.method or ("GET" if upload is None else "POST")
        message = Message(method, self.url, self.headers, follow=self.follow)
        self.state = State.UNDER_WAY
        self._began = trio.current_time()
        self._asked = opening, method, self.url
        scope = self._work = trio.CancelScope()
        try:
            self.view.service.start(self._send, message, opening, scope)
        except OSError:
            self._work = None
            self.state = State.IDLE
            raise

    def send_body(self, opening: Opening) -> None:
        """Say that the body ends here, and send the request if it was not."""
        if not self.under_way:
            self.start(opening, whole=True)
        elif self.upload is not None:
            self.upload.end()

    async def _send(self, message: Message, opening: Opening, scope: trio.CancelScope) -> None:
        error: OSError | None = fault(errno.ECANCELED, "the conversation was closed")
        try:
            with scope:
                await self._settle()
                asker = Asker(opening.caller, self._layers)
                exchange = await self.view.send(asker, message, self.upload, self.timeout_s)
                error = None
                self._answered(exchange)
                if self.conversation.ended:
                    self.end()
        except OSError as refusal:
            error = refusal
        except Exception as defect:
            log.error("a conversation failed with %r", defect, exc_info=defect)
            error = fault(errno.EIO, f"internal error ({type(defect).__name__})")
        finally:
            self._work = None
            if error is not None:
                self._tell(error)
                self._failed(error)
            self.bell.ring()

    def _tell(self, error: OSError | None) -> None:
        # A body that was closed before its end was answered all the same.
        asked, self._asked = self._asked, None
        if asked is None:
            return
        opening, method, url = asked
        exchange, body = self.exchange, self.body
        if exchange is None or body is None or (error and error.errno != errno.ECANCELED):
            error = error or fault(errno.ECANCELED, "the conversation was closed")
            failed(opening.namespace, opening.caller, (method, url), error)
            return
        seconds = trio.current_time() - self._began
        answered(opening.namespace, opening.caller, (method, url), exchange, body.position, seconds)

    async def _settle(self) -> None:
        # A close is told late by FUSE; a body that has ended is sent with its length.
        upload = self.upload
        if upload is None or upload.complete or upload.length is not None:
            return
        with trio.move_on_after(SETTLE_S):
            while not upload.complete and upload.room:
                await upload.bell.wait()
        upload.begin(whole=upload.complete)

    def _answered(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.state = State.RECEIVING
        self._elapsed = trio.current_time() - self._began
        self.body = Body(exchange, at_end=self._ended, let_go=self.view.service.let_go)
        if self.upload is not None and not self.upload.drained:
            self.upload.fail(
                fault(errno.EPIPE, f"the server answered {exchange.status} before the body's end")
            )

    def _ended(self, error: OSError | None) -> None:
        self._tell(error)
        if error is not None:
            self._failed(error)
        else:
            self.state = State.DONE
        self._elapsed = trio.current_time() - self._began
        self.bell.ring()

    def _failed(self, error: OSError) -> None:
        self.state = State.FAILED
        self.error = error
        if self.upload is not None and not self.upload.drained:
            self.upload.fail(error)

    # Reading -------------------------------------------------------------------------------------

    async def answer(self) -> tuple[Exchange, Body]:
        """Wait for the headers of the answer. Raises OSError what the request failed with."""
        while self._work is not None:
            await self.bell.wait()
        if self.exchange is None or self.body is None:
            raise self.error or fault(errno.EINVAL, "nothing was asked; write start to ctl")
        return self.exchange, self.body

    def left(self) -> None:
        """Count a reader less; the last one closes what nobody reads."""
        self.readers -= 1
        if not self.readers and self.body is not None:
            self.body.close()

    def end(self) -> None:
        """Close the connection: the conversation has ended."""
        if self._work is not None:
            self._work.cancel()
        if self.body is not None:
            self.body.close(fault(errno.ECANCELED, "the conversation was closed"))
        self.bell.ring()

    # Telling -------------------------------------------------------------------------------------

    def set_method(self, text: str) -> None:
        """Take the method. Raises OSError EINVAL."""
        self.method = method_of(text)

    def facts(self) -> dict[str, object]:
        """Tell what `status` shows."""
        upload, exchange = self.upload, self.exchange
        told: dict[str, object] = {
            "state": self._shown_state(),
            "method": self.method or ("GET" if upload is None else "POST"),
            "url": "" if self.url is None else self.url.masked(),
            "sent": 0 if upload is None else upload.sent,
            "received": 0 if self.body is None else self.body.position,
        }
        if exchange is not None:
            told |= {
                "status": exchange.status,
                "reason": exchange.reason,
                "version": exchange.http_version,
                "length": "unknown" if exchange.length is None else exchange.length,
                "from": exchange.url,
            }
        if self._elapsed is not None:
            told["elapsed-ms"] = round(self._elapsed * 1000)
        return told | {"timeout": self.timeout_s or "default"} | self.conversation.facts()

    def _shown_state(self) -> str:
        upload = self.upload
        if self.state is State.UNDER_WAY and upload is not None and not upload.drained:
            return "sending"
        return self.state.value
