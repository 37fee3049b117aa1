"""A disk whose syncs fail now and then: what it did not keep is not acknowledged (fsync(2), EIO).

The calls are those of the C library, which stand before the real ones in the server's process.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from oanix.lib.nostr import LocalSigner, Template
from tests.fault.test_relay_crash import Client, ids, server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
]

FAILING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    /* As often as the file says so: each failure takes it away. */
    if (!strstr(path, "events.db") || unlink(getenv("FAIL_ONE_SYNC"))) return 0;
    errno = EIO;
    return 1;
}

#define REAL(name) ((int (*)(int))dlsym(RTLD_NEXT, name))
int fsync(int fd) { return fails(fd) ? -1 : REAL("fsync")(fd); }
int fdatasync(int fd) { return fails(fd) ? -1 : REAL("fdatasync")(fd); }
"""

FAILED = "error: the store of this relay failed"


async def test_what_a_sync_did_not_keep_is_refused_and_can_be_sent_again(tmp_path: Path) -> None:
    (tmp_path / "failing.c").write_text(FAILING)
    library, now = tmp_path / "failing.so", tmp_path / "now"
    built = ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "failing.c", "-ldl"]
    subprocess.run(built, check=True)  # noqa: ASYNC221
    environment = {"LD_PRELOAD": str(library), "FAIL_ONE_SYNC": str(now)}
    signer = LocalSigner(bytes([7]) * 32, now=lambda: 1_700_000_000)
    taken = []
    async with server(tmp_path, environment=environment) as it:
        client = await it.client()
        for number in range(12):
            event = signer.sign_now(Template(1, f"note {number}", (("t", "x"),)))
            if number % 3 == 1:
                # What is searched is written a little later: that sync is not the one meant here.
                await _searchable(client, taken[-1])
                now.touch()
                assert (await client.put(event))[2:] == [False, FAILED]
                assert not now.exists()
                assert (await client.stored("s", {"ids": [event.id]}))[0] == []
                await client.say("CLOSE", "s")
            assert (await client.put(event))[2:] == [True, ""]
            taken.append(event.id)
    assert sorted(ids(tmp_path / "relay")) == sorted(taken)


async def _searchable(client: Client, event: str) -> None:
    with trio.fail_after(20):
        while event not in (await client.stored("w", {"search": "note"}))[0]:
            await client.say("CLOSE", "w")
        await client.say("CLOSE", "w")
