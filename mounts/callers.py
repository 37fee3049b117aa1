"""Callers of a kernel door: who a process is, remembered for a moment."""

import os
import time

from oanix.caller import Caller

REMEMBERED = 1024
"""How many processes are remembered."""

FRESH_S = 2.0
"""For how long: a process may start a session of its own, and its number may come again."""


class Callers:
    """Makes a Caller from what the kernel says of a request: pid, uid and gid."""

    def __init__(self, door: str) -> None:
        self.door = door
        self._known: dict[tuple[int, int, int], tuple[Caller, float]] = {}

    def of(self, pid: int, uid: int, gid: int) -> Caller:
        """Give the Caller; its session is read from /proc."""
        key = pid, uid, gid
        now = time.monotonic()
        known = self._known.get(key)
        if known is not None and known[1] > now:
            return known[0]
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        caller = Caller(uid=uid, gid=gid, pid=pid, session=session_of(pid), door=self.door)
        self._known[key] = caller, now + FRESH_S
        return caller


def session_of(pid: int) -> str:
    """Give the session id of a process, or "" when it is gone or not visible from here."""
    try:
        return str(os.getsid(pid)) if pid > 0 else ""
    except OSError:
        return ""
