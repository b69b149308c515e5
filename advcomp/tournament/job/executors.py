"""Run jobs side by side on this machine: threads, since every job is a process of its own."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Stop:
    """Set once to take no more jobs; those that run are finished."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Take no more jobs."""
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()


def run_local(
    jobs: Iterable[Job],
    work: Callable[[Job], Result],
    *,
    cost: Callable[[Job], float],
    workers: int,
    stop: Stop,
) -> Iterator[Result]:
    """Yield results as jobs finish; the costliest job starts first.

    An exception of `work` ends the run after the jobs that are under way.
    """
    queue = sorted(jobs, key=cost, reverse=True)
    with ThreadPoolExecutor(workers, thread_name_prefix="job") as pool:
        running: set[Future[Result]] = set()
        try:
            while running or (queue and not stop):
                while queue and len(running) < workers and not stop:
                    running.add(pool.submit(work, queue.pop(0)))
                # A time-out lets the main thread take signals while it waits.
                done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            stop_now = {future for future in running if future.cancel()}
            wait(running - stop_now)
