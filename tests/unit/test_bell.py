"""The bell: everyone who waits is woken once, and nobody is left behind."""

import trio
from trio.testing import wait_all_tasks_blocked

from oanix.bell import Bell


async def test_a_ring_wakes_every_task_that_waits(nursery: trio.Nursery) -> None:
    bell = Bell()
    woken = []

    async def wait(number: int) -> None:
        await bell.wait()
        woken.append(number)

    for number in range(100):
        nursery.start_soon(wait, number)
    await wait_all_tasks_blocked()
    assert bell.waiting == 100
    bell.ring()
    await wait_all_tasks_blocked()
    assert sorted(woken) == list(range(100))
    assert bell.waiting == 0


async def test_a_ring_that_nobody_heard_is_not_kept() -> None:
    bell = Bell()
    bell.ring()
    with trio.move_on_after(0) as scope:
        await bell.wait()
    assert scope.cancelled_caught


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    bell = Bell()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bell.waiting == 0
    bell.ring()


async def test_a_task_that_waits_again_hears_only_the_next_ring(nursery: trio.Nursery) -> None:
    bell = Bell()
    heard = 0

    async def wait() -> None:
        nonlocal heard
        while True:
            await bell.wait()
            heard += 1

    nursery.start_soon(wait)
    for expected in range(1, 4):
        await wait_all_tasks_blocked()
        bell.ring()
        await wait_all_tasks_blocked()
        assert heard == expected
    nursery.cancel_scope.cancel()


async def test_a_task_rung_and_cancelled_at_once_ends_once(nursery: trio.Nursery) -> None:
    bell = Bell()
    ended = []

    async def wait() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await bell.wait()
        ended.append(scope.cancelled_caught)

    scopes: list[trio.CancelScope] = []
    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    bell.ring()
    scopes[0].cancel()
    await wait_all_tasks_blocked()
    assert ended == [False]


def test_a_listener_is_called_once() -> None:
    bell = Bell()
    called: list[int] = []
    bell.listen(lambda: called.append(1))
    bell.ring()
    bell.ring()
    assert called == [1]


def test_a_listener_with_a_key_is_replaced_and_can_be_forgotten() -> None:
    bell = Bell()
    called: list[int] = []
    bell.listen(lambda: called.append(1), key="poll")
    bell.listen(lambda: called.append(2), key="poll")
    bell.listen(lambda: called.append(3), key="other")
    bell.forget("other")
    bell.forget("never listened")
    assert bell.waiting == 1
    bell.ring()
    assert called == [2]


def test_a_listener_may_listen_again_while_it_is_called() -> None:
    bell = Bell()
    called: list[int] = []

    def again() -> None:
        called.append(1)
        bell.listen(again)

    bell.listen(again)
    bell.ring()
    bell.ring()
    assert called == [1, 1]
    assert bell.waiting == 1
