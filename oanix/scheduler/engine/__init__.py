"""Engine: WebAssembly modules as guests that wait without a thread, and end when told to."""

from oanix.scheduler.engine.engine import BadModule, Engine, Linker, Module
from oanix.scheduler.engine.functions import Exit, Function
from oanix.scheduler.engine.guest import Ended, Guest, GuestLimits, Used
from oanix.scheduler.engine.loaded import Loaded
from oanix.scheduler.engine.memory import Memory
from oanix.scheduler.engine.shared import SharedMemories, SharedMemory

__all__ = [
    "BadModule", "Ended", "Engine", "Exit", "Function", "Guest", "GuestLimits", "Linker",
    "Loaded", "Memory", "Module", "SharedMemories", "SharedMemory", "Used",
]  # fmt: skip
