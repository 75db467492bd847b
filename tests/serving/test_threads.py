"""The bounded thread: what it counts as waiting is what waits."""

import asyncio
import threading
from concurrent.futures import Executor, Future

import pytest

from llmrec.serving.errors import BusyError
from llmrec.serving.threads import BoundedThread


class AtOnce(Executor):
    """Has done everything before `submit` returns, as a thread may have."""

    def submit(self, function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done


def test_work_that_is_done_at_once_is_counted_no_more():
    async def ask() -> None:
        thread = BoundedThread("titles", 2)
        thread._executor = AtOnce()
        for number in range(10):
            assert await thread.run(str, number) == str(number)
            await asyncio.sleep(0)

    asyncio.run(ask())


def test_beyond_the_bound_it_refuses_until_something_is_done():
    async def ask() -> None:
        thread, go_on = BoundedThread("titles", 2), threading.Event()
        waiting = [asyncio.create_task(thread.run(go_on.wait, 30)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="2 requests wait for titles"):
            await thread.run(str, 1)
        go_on.set()
        assert await asyncio.gather(*waiting) == [True, True]
        await asyncio.sleep(0.05)
        assert await thread.run(str, 1) == "1"
        thread.close()

    asyncio.run(ask())
