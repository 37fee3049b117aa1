"""Environment: a namespace that runs, its state folder and the life times of its services."""

from oanix.env.environment import OanixEnv
from oanix.env.registry import Run, ServiceStatus, runs
from oanix.env.state import Busy, cache_folder, state_folder

__all__ = ["Busy", "OanixEnv", "Run", "ServiceStatus", "cache_folder", "runs", "state_folder"]
