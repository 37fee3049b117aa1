"""The file `log`: what it tells is the owner's to know."""

import errno

from oanix.errors import fault
from oanix.kit import Opening
from oanix.kit.stream import Stream
from oanix.node import Handle


class LogHandler(Stream):
    """The log of every request of the service; a child's namespace does not open it."""

    async def open(self, opening: Opening) -> Handle:
        if opening.namespace.is_child:
            raise fault(
                errno.EACCES, "the log tells of everybody's requests; ask the owner of this mount"
            )
        return await super().open(opening)
