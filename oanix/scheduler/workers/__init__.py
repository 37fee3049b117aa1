"""Workers: processes that run guests, so that one that crashes costs its own jobs and no others."""

from oanix.scheduler.workers.guest import WorkerDied, WorkerGuest
from oanix.scheduler.workers.pool import Pool

__all__ = ["Pool", "WorkerDied", "WorkerGuest"]
