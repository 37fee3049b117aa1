"""Interpreters: WebAssembly modules that run scripts, from packages, read when they are wanted.

Nothing here loads the engine: what a specification may name is known without it.
"""

from oanix.scheduler.interpreters.starting import Start, start_of
from oanix.scheduler.interpreters.table import INTERPRETERS, Interpreter, chosen, interpreter

__all__ = ["INTERPRETERS", "Interpreter", "Start", "chosen", "interpreter", "start_of"]
