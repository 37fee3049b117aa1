"""Place: where a journal and its anchor lie in the state folder.

workspaces/<hash>/journal/    that of a served directory, beside its logs
journals/<hash>/              that of a recipe, by the path of its file; <hash>.2/ and so on when
                              several servers of one recipe run at once
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

    @classmethod
    def of_folder(cls, state: str, folder: str) -> "JournalPlace":
        """Find the anchor of a folder that one of the others gave."""
        name = os.path.basename(folder)
        own = os.path.dirname(folder)
        if os.path.basename(os.path.dirname(own)) == "workspaces":
            return cls.of_workspace(state, own)
        return cls(folder, os.path.join(state, "anchors", name))

    def beside(self, number: int) -> "JournalPlace":
        """Place the journal of one more server of the same recipe; the first is number 1."""
        more = "" if number == 1 else f".{number}"
        return JournalPlace(f"{self.folder}{more}", f"{self.anchor}{more}")

    @property
    def exists(self) -> bool:
        """Whether anything was ever recorded there."""
        return os.path.isdir(self.folder) or os.path.exists(self.anchor)
