"""Caller: on whose behalf an operation is done."""

from attrs import frozen


@frozen(kw_only=True)
class Caller:
    """Who asks, as a door knows it.

    uid, gid, groups and pid are the peer's as the operating system gives them; session is its login
    session (a sid), job the job it runs in, request a number of the request for the log, and door
    names the door, so that a door can tell its own changes from others'.
    """

    principal: str = "owner"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    pid: int = 0
    session: str = ""
    job: str = ""
    request: str = ""
    door: str = ""

    @property
    def session_key(self) -> str:
        """Name whose errors are whose: the job, else the session, else the user."""
        if self.job:
            return f"job:{self.job}"
        return f"sid:{self.session}" if self.session else f"uid:{self.uid}"
