"""Several pictures at once: a picture of the networks needs its reference and its own layers, but no picture before it.

One picture on two cores is slower than two pictures on a core each, which have nothing to wait for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

MOST = 4
"""Chosen: pictures at once, at 40 MB each for 256x256."""


def at_once() -> int:
    """How many pictures to work on at once: one for each thread that PyTorch may use here, up to MOST."""
    import torch

    return min(MOST, torch.get_num_threads())


def in_flight(tasks: Iterable[Callable[[], T]], workers: int) -> Iterator[T]:
    """The results of tasks, in order.

    workers: how many of them run at once, each with one thread of PyTorch's. No more than that are taken from `tasks` before
             they are needed. 1: each runs, in the calling thread, when its result is asked for.

    An exception of a task, or of `tasks`, comes after the results of all tasks in front of it.
    """
    if workers == 1:
        for task in tasks:
            yield task()
        return
    import torch

    coming, pending = iter(tasks), deque[Future[T]]()
    threads, broken = torch.get_num_threads(), None
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            while True:
                while len(pending) < workers and broken is None:
                    try:
                        pending.append(pool.submit(next(coming)))
                    except Exception as error:  # StopIteration, too: the end
                        broken = error
                if not pending:
                    break
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(threads)  # of threads to come: a worker's setting would be theirs
    if broken is not None and not isinstance(broken, StopIteration):
        raise broken
