"""Options of a FUSE mount, as `-o` gives them."""

import errno
import os
from pathlib import Path

from attrs import evolve, field, fields, frozen

from oanix.errors import fault

LINGER_US = 200
"""How long a server looks for the next request; with one processor that would only delay it."""

FUSE_CONF = Path("/etc/fuse.conf")


@frozen(kw_only=True)
class FuseOptions:
    """How a namespace is mounted.

    allow_other: users other than the one who mounts may enter, as the modes of the files say.
    read_only: nothing can be written. exclusive: nobody else writes to what is served, so the
    kernel may keep writes back. list_all: endless files and `new` are listed, too. nonempty: the
    mount point may hold files, which are hidden while the mount lasts. linger_us: for how many
    microseconds the server looks for the next request before it sleeps; 0 saves processor time, and
    costs speed.
    """

    allow_other: bool = False
    read_only: bool = False
    exclusive: bool = False
    list_all: bool = False
    nonempty: bool = False
    linger_us: int = field(factory=lambda: LINGER_US if len(os.sched_getaffinity(0)) > 1 else 0)

    @classmethod
    def parse(cls, words: list[str]) -> "FuseOptions":
        """Read options; a word may hold several, separated by commas.

        Raises OSError EINVAL for an unknown one, and EPERM for `allow_other` where the system does
        not let a user who is not root give it.
        """
        options = cls()
        for word in ",".join(words).split(","):
            if word:
                options = options._with(word)
        if options.allow_other and os.geteuid() and not _user_allow_other():
            raise fault(
                errno.EPERM,
                f"allow_other needs the line 'user_allow_other' in {FUSE_CONF}; ask root to add it",
            )
        return options

    def _with(self, word: str) -> "FuseOptions":
        name, equals, value = word.partition("=")
        name = {"ro": "read_only", "rw": "read_write"}.get(name, name).replace("-", "_")
        if name == "read_write" and not equals:
            return evolve(self, read_only=False)
        if name == "linger_us" and value.isdecimal() and int(value) <= 10_000:
            return evolve(self, linger_us=int(value))
        flags = [field.name for field in fields(FuseOptions) if field.type is bool]
        if name not in flags or equals:
            known = ", ".join(["ro", *(flag.replace("_", "-") for flag in flags), "linger-us=N"])
            raise fault(errno.EINVAL, f"{word!r} is no mount option; known: {known}")
        return evolve(self, **{name: True})


def _user_allow_other() -> bool:
    try:
        lines = FUSE_CONF.read_text().splitlines()
    except OSError:
        return False
    return any(line.split("#")[0].strip() == "user_allow_other" for line in lines)
