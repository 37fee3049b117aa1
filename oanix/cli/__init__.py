"""The command line, `oanix`. One module for each group of commands, imported when it is used."""

from oanix.cli.root import main

__all__ = ["main"]
