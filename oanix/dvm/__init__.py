"""Data vending (NIP-90): a program does the jobs that others ask for on Nostr.

    jobs = Jobs.open(folder)
    worker = Worker(client, jobs, Command(("sh", "-c", "wc -w"), …), Offer(…), now=now)
    await worker.run()

It stands apart from the services: requests come from a subscription of /cap/nostr, results go to
its `publish`, and nothing is used but those files. The NIP is not recommended any more; this is all
there is of it on the side of who works.
"""

from oanix.dvm.command import Command, Failed, Handler
from oanix.dvm.feed import Files
from oanix.dvm.jobs import Jobs
from oanix.dvm.mounted import Mounted
from oanix.dvm.request import JOB_KINDS, Request
from oanix.dvm.worker import Offer, Worker

__all__ = [
    "JOB_KINDS",
    "Command",
    "Failed",
    "Files",
    "Handler",
    "Jobs",
    "Mounted",
    "Offer",
    "Request",
    "Worker",
]
