"""Several pictures at once: a picture of the networks needs its reference and its own layers, but no picture before it.

One picture on two cores is slower than two pictures on a core each, which have nothing to wait for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

MOST = 4
"""Chosen: pictures at once, at 40 MB each for 256x256."""


def at_once() -> int:
    """How many pictures to work on at once: one for each thread that PyTorch may use here, up to MOST."""
    import torch

    return min(MOST, torch.get_num_threads())


def alone(task: Callable[[], T]) -> T:
    """The result of one task, rounded as if others were in flight with it: what comes back into later frames must not depend on
    who waits for it."""
    (result,) = in_flight([task], at_once())
    return result


def same(result: T) -> T:
    """What is there already, as a task: `partial(same, result)`."""
    return result


def in_flight(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """The results of tasks, in order.

    workers: how many of them run at once, each with one thread of PyTorch's. No more than that are taken from `tasks` before
             they are needed. 1: each runs, in the calling thread, when its result is asked for.

    An exception of a task, or of `tasks`, comes after the results of all tasks in front of it. While several work, other
    threads of the process that begin to use PyTorch have one thread of it, and OpenCV has one everywhere.
    """
    if workers == 1:
        for one in tasks:
            yield one()
        return
    import cv2
    import torch

    coming, pending, broken = iter(tasks), deque[Future[T]](), None
    settings = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)  # before there are workers: it must not change while any of them is inside of OpenCV
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            ended = False
            while True:
                while len(pending) < workers and not ended:
                    try:
                        task = next(coming, None)
                    except Exception as error:
                        task, broken = None, error
                    if task is None:
                        ended = True
                    else:
                        pending.append(pool.submit(task))
                if not pending:
                    break
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(settings[0])  # of threads to come: a worker's setting would be theirs
        cv2.setNumThreads(settings[1])
    if broken is not None:
        raise broken
