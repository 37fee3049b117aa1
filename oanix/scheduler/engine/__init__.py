"""Engine: WebAssembly modules as guests that wait without a thread, and end when told to.

How guests are run depends on the private names of wasmtime that `bindings` checks. Where these are
not as they should be, guests run by its public interface (`plain`): a thread each, and slower.
"""

import logging
from typing import TYPE_CHECKING

from oanix.scheduler.engine.ending import Ended, GuestLimits, Used
from oanix.scheduler.engine.engine import BadModule, Engine, Module
from oanix.scheduler.engine.functions import Exit, Function, close_unawaited
from oanix.scheduler.engine.loaded import Loaded, in_time
from oanix.scheduler.engine.memory import Memory
from oanix.scheduler.engine.timing import Timed

if TYPE_CHECKING:
    from oanix.scheduler.engine.guest import Guest
    from oanix.scheduler.engine.linking import Linker
    from oanix.scheduler.engine.shared import SharedMemories, SharedMemory

    DIRECT: bool
else:
    try:
        from oanix.scheduler.engine.guest import Guest
        from oanix.scheduler.engine.linking import Linker
        from oanix.scheduler.engine.shared import SharedMemories, SharedMemory

        DIRECT = True
    except ImportError as error:
        from oanix.scheduler.engine.plain import Guest, Linker

        SharedMemories = SharedMemory = None
        DIRECT = False
        logging.getLogger(__name__).warning(
            "guests are slow, and have no workers: %s; install the wasmtime that setup.cfg names",
            error,
        )
"""Whether guests run without a detour; only then can workers have them."""

__all__ = [
    "DIRECT", "BadModule", "Ended", "Engine", "Exit", "Function", "Guest", "GuestLimits", "Linker",
    "Loaded", "Memory", "Module", "SharedMemories", "SharedMemory", "Timed", "Used",
    "close_unawaited", "in_time",
]  # fmt: skip
