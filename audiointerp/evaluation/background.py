"""Reading ahead and writing behind: one thread each beside the computation, which releases Python's lock.

Order is kept, so that an interrupted command has written what comes first, as if it did one thing after another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Ahead = TypeVar("Ahead")

__all__ = ["WritingBehind", "ahead"]


def ahead(values: Iterable[Ahead], most: int) -> Generator[Ahead, None, None]:
    """The values in their order, of which a thread makes up to `most` in advance; close it to end the thread.

    An error in making a value is raised in its place.

    >>> list(ahead(iter("abc"), 2))
    ['a', 'b', 'c']
    """
    steps, end = iter(values), object()
    with ThreadPoolExecutor(1, "ahead") as pool:
        pending: deque[Future[Any]] = deque(pool.submit(next, steps, end) for _ in range(most))
        try:
            while (value := pending.popleft().result()) is not end:
                pending.append(pool.submit(next, steps, end))
                yield value
        finally:
            for each in pending:
                each.cancel()


class WritingBehind:
    """A thread that does jobs in the order in which they are given; at the end of a `with` block all are done.

    Once a job failed, no further one is begun, and its error is raised by the next call here.

    Args:
        most: number of jobs that may wait; `do` waits for the first of them if there are more.
    """

    def __init__(self, most: int):
        self.most = most
        self._pool = ThreadPoolExecutor(1, "background")
        self._pending: deque[Future[None]] = deque()
        self._failed = False

    def do(self, job: Callable[[], object]) -> None:
        """Gives a job to the thread."""
        while len(self._pending) >= self.most or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._guarded, job))

    def wait(self) -> None:
        """Returns when all jobs are done."""
        while self._pending:
            self._pending.popleft().result()

    def _guarded(self, job: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> WritingBehind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # Also after an error elsewhere: explanations made before it are kept.
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown(wait=True)
