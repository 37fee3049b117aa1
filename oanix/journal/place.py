"""Place: where a journal and its anchor lie in the state folder.

workspaces/<hash>/journal/    that of a served directory, beside its logs
journals/<hash>/              that of a recipe, by the path of its file
anchors/<hash>                the anchor of either
"""

import hashlib
import os

from attrs import frozen


@frozen
class JournalPlace:
    """The folder of a journal and the file of its anchor."""

    folder: str
    anchor: str

    @classmethod
    def of_workspace(cls, state: str, own: str) -> "JournalPlace":
        """Place the journal of a directory, whose own folder of the state is `own`."""
        name = os.path.basename(own)
        return cls(os.path.join(own, "journal"), os.path.join(state, "anchors", name))

    @classmethod
    def of_recipe(cls, state: str, called: str) -> "JournalPlace":
        """Place the journal of a recipe: the path of its file, or what else it is called."""
        real = os.path.realpath(called) if called.startswith("/") else called
        name = hashlib.sha256(b"recipe " + os.fsencode(real)).hexdigest()[:32]
        return cls(os.path.join(state, "journals", name), os.path.join(state, "anchors", name))

    @property
    def exists(self) -> bool:
        """Whether anything was ever recorded there."""
        return os.path.isdir(self.folder) or os.path.exists(self.anchor)
