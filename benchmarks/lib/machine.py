"""Describe the machine in a way that can be published."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from typing import TYPE_CHECKING

from .results import Machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .targets import Target


def describe(filesystem: str, targets: Sequence[Target]) -> Machine:
    """Return the description; of the kernel only its number, which no host gave its name to."""
    kernel = re.match(r"\d+(\.\d+)*", platform.release())
    try:
        pyfuse3 = metadata.version("pyfuse3")
    except metadata.PackageNotFoundError:
        pyfuse3 = "not installed"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages / 2**30),
        kernel=kernel.group() if kernel else "unknown",
        python=platform.python_version(),
        pyfuse3=pyfuse3,
        filesystem=filesystem,
        load=os.getloadavg()[0],
        versions={target.name: target.version for target in targets if target.version},
    )
