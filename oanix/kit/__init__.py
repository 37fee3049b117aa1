"""Kit: building blocks for synthetic files, so that a service is a table and a few functions.

A service declares rows of name, mode and handler; the kit answers for everything that is missing.

    class Greeter(TableService):
        \"\"\"Says hello.\"\"\"

        name = "greeter"

        def __init__(self) -> None:
            super().__init__()
            self.whom = "world"
            self.grow((
                ("greeting", 0o444, Text(lambda opening: f"hello, {self.whom}\\n")),
                ("ctl", 0o222, Ctl({"greet": self.greet})),
            ))

        def greet(self, whom: str, opening: Opening) -> None:
            self.whom = whom

Handlers: `Text` (a snapshot), `Value` (a snapshot that can be written), `Ctl` (commands), `Message`
(one message a line), `Stream` (over a `Ring`), `New` (over `Conversations`), `Folder` (rows of its
own). A service that the options of a mount narrow is a `ViewedService`.
docs/writing-a-service.md builds a service with them, step by step.
"""

from oanix.kit.conversation import Conversation, Conversations, New, Quota
from oanix.kit.file import Handler, Opening, Owner
from oanix.kit.folder import Children, Folder, Row, Rows, TableDirectory
from oanix.kit.lines import Ctl, Lines, Message, integer, no_argument
from oanix.kit.service import TableService
from oanix.kit.stream import Ring, Stream, StreamHandle
from oanix.kit.text import Snapshot, Text, Value, facts
from oanix.kit.views import View, ViewedService

__all__ = [
    "Children",
    "Conversation",
    "Conversations",
    "Ctl",
    "Folder",
    "Handler",
    "Lines",
    "Message",
    "New",
    "Opening",
    "Owner",
    "Quota",
    "Ring",
    "Row",
    "Rows",
    "Snapshot",
    "Stream",
    "StreamHandle",
    "TableDirectory",
    "TableService",
    "Text",
    "Value",
    "View",
    "ViewedService",
    "facts",
    "integer",
    "no_argument",
]
