"""Several pictures at once: order, how far ahead, and what happens where one of them fails."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import pytest
import torch

from hdac.codecs.in_flight import MOST, at_once, in_flight


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_whoever_is_first(workers: int) -> None:
    done = [threading.Event() for _ in range(7)]

    def work(n: int) -> int:
        if workers > 1 and n % 2 == 0 and n < 6:
            assert done[n + 1].wait(60)  # finishes after its follower
        done[n].set()
        return n

    assert list(in_flight((partial(work, n) for n in range(7)), workers)) == list(range(7))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_is_taken_than_there_are_workers(workers: int) -> None:
    taken = []

    def tasks() -> Iterator[Callable[[], int]]:
        for n in range(9):
            taken.append(n)
            yield partial(int, n)

    results = in_flight(tasks(), workers)
    for n in range(9):
        assert next(results) == n
        assert len(taken) <= n + workers


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_what_is_in_front_of_a_failure_comes_first(workers: int) -> None:
    def failing() -> int:
        raise ValueError("task")

    def broken() -> Iterator[Callable[[], int]]:
        yield from (partial(int, n) for n in range(3))
        raise ValueError("tasks")

    for tasks, message in (([partial(int, 0), partial(int, 1), partial(int, 2), failing], "task"), (broken(), "tasks")):
        results, seen = in_flight(tasks, workers), []
        with pytest.raises(ValueError, match=f"^{message}$"):
            for result in results:
                seen.append(result)
        assert seen == [0, 1, 2]


def test_workers_have_a_thread_each_and_leave_the_setting_as_it_was() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert at_once() == 2 <= MOST
        assert list(in_flight([torch.get_num_threads] * 4, 2)) == [1] * 4
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert torch.get_num_threads() == 2 and found == [2]
    finally:
        torch.set_num_threads(threads)


def test_who_wants_no_more_leaves_no_thread_behind() -> None:
    threads, settings = threading.active_count(), (torch.get_num_threads(), cv2.getNumThreads())
    results = in_flight(itertools.repeat(partial(int, 1)), 3)
    assert next(results) == 1 and threading.active_count() > threads
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads and (torch.get_num_threads(), cv2.getNumThreads()) == settings
