"""WASI door: a namespace as the world of a WebAssembly module (WASI preview 1)."""

from oanix.scheduler.wasi.door import functions
from oanix.scheduler.wasi.process import Bounds, OverLimit, Process

__all__ = ["Bounds", "OverLimit", "Process", "functions"]
