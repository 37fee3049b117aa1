"""Worker: takes requests, has them done, and publishes what comes of them."""

import errno
import logging
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from attrs import frozen

from oanix.bell import Bell
from oanix.dvm.command import Failed, Handler
from oanix.dvm.feed import Feed, Files, read_text, signed, write_line
from oanix.dvm.jobs import Job, Jobs, State
from oanix.dvm.request import DELETION, Request, cancelled
from oanix.lib.nostr import Event, Invalid, Template, decode, encode

log = logging.getLogger(__name__)

WAITING_MAX: Final = 200
"""Jobs that are not at their end; more are refused."""

TRIES: Final = 3
"""How often a job is begun that was cut off, before it is given up."""

AHEAD_S: Final = 900
"""How far in the future a request may be dated: clocks differ."""

AGAIN_S: Final = 30.0
"""After how long is tried again what could not be published."""

KEPT_S: Final = 7 * 24 * 3600
"""For how long a job is known that is at its end."""

Report = Callable[[Request, State], None]
"""Told of a job what has become of it."""


@frozen(kw_only=True)
class Offer:
    """What is offered. price: in millisatoshi; a request whose bid is lower is not done."""

    kinds: frozenset[int]
    price: int | None = None
    at_once: int = 2
    max_age_s: int = 600


class Worker:
    """Does the jobs that are asked for through a tree of NostrFs."""

    def __init__(
        self, files: Files, jobs: Jobs, handler: Handler, offer: Offer, *, folder: Path,
        now: Callable[[], int], tree: str = "/cap/nostr", again_s: float = AGAIN_S,
        report: Report = lambda request, state: None,
    ) -> None:  # fmt: skip
        """Make it. folder: where each job has a folder of its own while it is done."""
        self._files = files
        self._jobs = jobs
        self._handler = handler
        self._offer = offer
        self._folder = folder
        self._now = now
        self._tree = tree
        self._again_s = again_s
        self._report = report
        self._pubkey = ""
        self._open: dict[str, str] = {}
        """Who asked for each job that is not at its end."""
        self._running: dict[str, trio.CancelScope] = {}
        self._changed = Bell()
        self._answered = trio.Event()
        self._send, self._receive = trio.open_memory_channel[str](math.inf)

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; says whose key it answers with once it listens.

        A job that is being done then is begun again by the next run. Raises OSError when the tree
        cannot be used, or its subscription ends.
        """
        self._pubkey = (await read_text(self._files, f"{self._tree}/pubkey")).strip()
        await trio.to_thread.run_sync(self._clear)
        async with (
            Feed.opened(self._files, self._tree) as requests,
            Feed.opened(self._files, self._tree) as deletions,
            trio.open_nursery() as nursery,
        ):
            self._resume()
            for _ in range(self._offer.at_once):
                nursery.start_soon(self._work)
            nursery.start_soon(self._deliver_all)
            nursery.start_soon(self._watch, deletions)
            nursery.start_soon(self._heed, deletions)
            since = self._now() - self._offer.max_age_s
            await requests.ask([{"kinds": sorted(self._offer.kinds), "since": since}])
            task_status.started(self._pubkey)
            async for said in requests:
                await self._take(said)

    def _clear(self) -> None:
        """Take away what a worker that was killed has left: its programs first."""
        for folder in self._folder.glob("*"):
            self._handler.end_leftover(folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)

    def _resume(self) -> None:
        # What is forgotten must be too old to be taken again.
        self._jobs.forget(self._now() - max(KEPT_S, 2 * self._offer.max_age_s))
        for job in self._jobs.open_ones():
            request = job.request
            self._open[request.id] = request.customer
            if job.state == "running" and job.tries >= TRIES:
                self._answer(request, "failed", request.feedback("error", "the job was cut off"))
            elif job.state != "answered":
                self._jobs.release(request.id, tried=True)
                self._enqueue(request)

    # Requests ------------------------------------------------------------------------------------

    async def _take(self, said: Any) -> None:
        request = self._wanted(said)
        if request is None:
            return
        offer = self._offer
        if request.encrypted:
            words = "encrypted requests are not read here"
            await self._refuse(request, "refused", request.feedback("error", words))
        elif offer.price is not None and (request.bid or 0) < offer.price:
            feedback = request.feedback("payment-required", price=offer.price)
            await self._refuse(request, "unpaid", feedback)
        elif len(self._open) >= WAITING_MAX:
            feedback = request.feedback("error", "too many jobs wait here; ask later")
            await self._refuse(request, "refused", feedback)
        elif self._jobs.add(request, "waiting", self._now()):
            self._report(request, "waiting")
            self._enqueue(request)

    def _wanted(self, said: Any) -> Request | None:
        """Read what a subscription gave: nothing for what is not for us, or known already."""
        if isinstance(said, dict) and "lagged" in said:
            log.warning("%s requests came too fast and were missed", said["lagged"])
            return None
        try:
            event = Event.of(said)
        except Invalid as error:
            log.warning("what came is no event: %s", error.reason)
            return None
        now, request = self._now(), Request.of(event)
        expired = event.expiration is not None and event.expiration <= now
        timely = now - self._offer.max_age_s <= event.created_at <= now + AHEAD_S
        ours = not request.providers or self._pubkey in request.providers
        if event.kind not in self._offer.kinds or expired or not timely or not ours:
            return None
        return None if self._jobs.find(request.id) else request

    async def _refuse(self, request: Request, state: State, feedback: Template) -> None:
        self._jobs.add(request, state, self._now())
        self._report(request, state)
        await self._say(feedback)

    def _enqueue(self, request: Request) -> None:
        self._open[request.id] = request.customer
        self._send.send_nowait(request.id)
        self._changed.ring()

    # Deletions -----------------------------------------------------------------------------------

    async def _watch(self, deletions: Feed) -> None:
        """Ask for deletions of the jobs that can still be cancelled."""
        asked: dict[str, str] = {}
        while True:
            while not self._open.keys() - asked.keys():
                await self._changed.wait()
            asked = dict(self._open)
            customers = sorted(set(asked.values()))
            await deletions.ask([{"kinds": [DELETION], "#e": [*asked], "authors": customers}])

    async def _heed(self, deletions: Feed) -> None:
        async for said in deletions:
            try:
                event = Event.of(said)
            except Invalid:
                continue  # lagged: there is nothing to catch up with
            for job in cancelled(event):
                if self._open.get(job) == event.pubkey:
                    self._cancel(job)

    def _cancel(self, job: str) -> None:
        found = self._jobs.find(job)
        if found is None or found.state not in ("waiting", "running"):
            return
        self._jobs.end(job, "cancelled")
        self._report(found.request, "cancelled")
        self._open.pop(job, None)
        if job in self._running:
            self._running[job].cancel()

    # Work ----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        async for job in self._receive:
            found = self._jobs.find(job)
            if found is not None and self._jobs.claim(job):
                await self._do(found.request)

    async def _do(self, request: Request) -> None:
        folder = self._folder / request.id
        scope = self._running[request.id] = trio.CancelScope()
        try:
            with scope:
                await self._say(request.feedback("processing"))
                self._report(request, "running")
                await self._have_done(request, folder)
        except trio.Cancelled:
            # The end of the worker: that it was begun does not count.
            self._jobs.release(request.id, tried=False)
            raise
        finally:
            del self._running[request.id]
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))

    async def _have_done(self, request: Request, folder: Path) -> None:
        try:
            await trio.Path(folder).mkdir(mode=0o700)
            text = await self._inputs(request)
            content = await self._handler.run(request, text, folder)
        except Failed as error:
            self._answer(request, "failed", request.feedback("error", error.sentence))
        except OSError as error:
            # What is wrong here is nothing for strangers.
            log.error("job=%s could not be begun: %s", request.id, error)
            self._answer(request, "failed", request.feedback("error", "the worker is out of order"))
        else:
            self._answer(request, "done", request.result(content, self._offer.price))

    async def _inputs(self, request: Request) -> str:
        """Give the inputs as text, a line between them; events are looked up in the tree."""
        texts = []
        for one in request.inputs:
            if one.type in ("text", ""):
                texts.append(one.data)
            elif one.type == "event":
                texts.append(await self._event(one.data))
        return "\n".join(texts)

    async def _event(self, name: str) -> str:
        if "/" in name or not name:
            raise Failed("an input is no event")
        try:
            return (await read_text(self._files, f"{self._tree}/event/{name}")).rstrip("\n")
        except OSError:
            raise Failed(f"the event {name[:80]} was not found") from None

    # Answers -------------------------------------------------------------------------------------

    def _answer(self, request: Request, outcome: State, template: Template) -> None:
        self._jobs.answer(request.id, outcome, _written(template).decode())
        self._answered.set()

    async def _deliver_all(self) -> None:
        """Publish answers, one after the other; what fails is tried again later."""
        while True:
            answered = self._answered = trio.Event()
            failed = False
            for job in self._jobs.open_ones():
                if job.state == "answered":
                    failed |= not await self._deliver(job)
            with trio.move_on_after(self._again_s if failed else math.inf):
                await answered.wait()

    async def _deliver(self, job: Job) -> bool:
        """Sign an answer, but once, and publish it; tells whether that went well."""
        request, answer = job.request, job.answer.encode()
        try:
            if "sig" not in decode(answer):
                answer = await signed(self._files, f"{self._tree}/sign", answer)
                self._jobs.sign(request.id, Event.parse(answer))
            await write_line(self._files, f"{self._tree}/publish", answer)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EMSGSIZE):
                log.warning("job=%s its answer waits: %s", request.id, error.strerror)
                return False
            log.error("job=%s its answer is not published: %s", request.id, error.strerror)
            outcome: State = "failed"
        else:
            outcome = job.outcome
        self._open.pop(request.id, None)
        self._jobs.end(request.id, outcome)
        self._report(request, outcome)
        return True

    async def _say(self, feedback: Template) -> None:
        try:
            await write_line(self._files, f"{self._tree}/publish", _written(feedback))
        except OSError as error:
            # It is only said in passing; the result is what counts.
            log.warning("feedback could not be published: %s", error.strerror)


def _written(template: Template) -> bytes:
    return encode({"kind": template.kind, "content": template.content, "tags": template.tags})
