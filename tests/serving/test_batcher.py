"""Requests become batches as they arrive; what is asked comes back to whoever asked."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from llmrec.serving.batcher import Batcher
from llmrec.serving.errors import BusyError, NotReadyError
from llmrec.serving.settings import BatchSettings


@dataclass(frozen=True)
class Double:
    """Asks for twice a number; numbers of one parity share a call."""

    number: int

    @property
    def sharing(self) -> int:
        return self.number % 2


class Answering:
    """Doubles numbers in a thread of its own, once `goes` is set, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.goes = threading.Event()
        self.goes.set()
        self.began = threading.Event()

    def __call__(self, requests: list[Double]) -> list[int | Exception]:
        self.began.set()
        assert self.goes.wait(10)
        self.calls.append([request.number for request in requests])
        if any(request.number == 13 for request in requests):
            raise ValueError("thirteen")
        return [ValueError("seven") if request.number == 7 else 2 * request.number for request in requests]


def run(scenario, *, ends: bool = True, **settings) -> Answering:
    """The scenario, given a batcher and what answers for it. ends: whether the batcher is closed afterwards."""
    answering = Answering()

    async def inside() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(answering, executor, BatchSettings(**settings))
            await scenario(batcher, answering)
            answering.goes.set()
            if ends:
                await batcher.close()

    asyncio.run(inside())
    return answering


def test_requests_of_one_window_share_a_call_with_those_like_them():
    async def scenario(batcher, answering):
        assert await asyncio.gather(*(batcher.ask(Double(n)) for n in range(5))) == [0, 2, 4, 6, 8]

    assert run(scenario, window_ms=200).calls == [[0, 2, 4], [1, 3]]


def test_a_full_batch_does_not_wait_for_its_window():
    async def scenario(batcher, answering):
        async with asyncio.timeout(5):
            await asyncio.gather(*(batcher.ask(Double(2 * n)) for n in range(4)))

    assert run(scenario, window_ms=10_000, size=2).calls == [[0, 2], [4, 6]]


def test_what_arrives_while_the_model_works_is_the_next_batch():
    async def scenario(batcher, answering):
        answering.goes.clear()
        first = asyncio.create_task(batcher.ask(Double(0)))
        assert await asyncio.to_thread(answering.began.wait, 10)
        others = [asyncio.create_task(batcher.ask(Double(n))) for n in (2, 4, 6)]
        await asyncio.sleep(0.05)
        answering.goes.set()
        assert await asyncio.gather(first, *others) == [0, 4, 8, 12]

    assert run(scenario, window_ms=0).calls == [[0], [2, 4, 6]]


def test_a_mistake_of_one_request_is_its_own_and_that_of_a_call_is_of_all_in_it():
    async def scenario(batcher, answering):
        found = await asyncio.gather(*(batcher.ask(Double(n)) for n in (5, 7, 9)), return_exceptions=True)
        assert found[0] == 10 and str(found[1]) == "seven" and found[2] == 18
        found = await asyncio.gather(*(batcher.ask(Double(n)) for n in (11, 13, 2)), return_exceptions=True)
        assert [str(one) for one in found] == ["thirteen", "thirteen", "4"]
        assert await batcher.ask(Double(1)) == 2

    run(scenario, window_ms=100)


def test_a_full_queue_refuses_and_takes_again_when_there_is_room():
    async def scenario(batcher, answering):
        answering.goes.clear()
        first = asyncio.create_task(batcher.ask(Double(0)))
        assert await asyncio.to_thread(answering.began.wait, 10)
        waiting = [asyncio.create_task(batcher.ask(Double(n))) for n in (2, 4)]
        await asyncio.sleep(0.01)
        assert len(batcher) == 2
        with pytest.raises(BusyError) as refused:
            await batcher.ask(Double(6))
        assert refused.value.retry_after >= 1
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        again = asyncio.create_task(batcher.ask(Double(8)))
        await asyncio.sleep(0.01)
        answering.goes.set()
        assert await asyncio.gather(first, waiting[1], again) == [0, 8, 16]

    assert run(scenario, window_ms=0, queue=2).calls == [[0], [4, 8]]  # nobody computed what nobody waits for


def test_who_waits_for_what_never_ends_can_be_told():
    async def scenario(batcher, answering):
        answering.goes.clear()
        asked = [asyncio.create_task(batcher.ask(Double(n))) for n in (0, 2, 4)]
        assert await asyncio.to_thread(answering.began.wait, 10)
        assert len(batcher) == 1 and batcher.busy_seconds > 0
        batcher.abandon(NotReadyError("it never ends"))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(one) for one in found] == ["it never ends"] * 3
        with pytest.raises(NotReadyError):
            await batcher.ask(Double(6))

    run(scenario, window_ms=0, size=2, ends=False)


def test_closing_answers_what_waits_and_takes_nothing_more():
    async def scenario(batcher, answering):
        answering.goes.clear()
        asked = [asyncio.create_task(batcher.ask(Double(n))) for n in range(4)]
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(NotReadyError):
            await batcher.ask(Double(4))
        answering.goes.set()
        await closing
        assert [task.result() for task in asked] == [0, 2, 4, 6]

    run(scenario, window_ms=10_000, size=2)
