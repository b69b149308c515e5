"""What carries jobs to where they run: threads of this process, or what another package adds.

Every job is a process of its own, in a box, so threads are enough on one machine.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar, cast

from advcomp import plugins
from advcomp.errors import InvalidConfig

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


class Executor(Protocol):
    """Carries jobs out, and hands back their results as they end."""

    def __call__(
        self,
        jobs: Iterable[Job],
        work: Callable[[Job], Result],
        *,
        cost: Callable[[Job], float],
        workers: int,
        stop: Stop,
    ) -> Iterator[Result]:
        """Yield the result of every job, once, in any order.

        Args:
            jobs: What is to be done.
            work: Does one of them; may be called from several threads. An exception of it ends
                the run after the jobs that are under way.
            cost: How long a job may take, in any unit: the costliest should start first.
            workers: How many jobs run at once, at most.
            stop: Once it is set, no more jobs are begun.
        """
        ...


def run_local(
    jobs: Iterable[Job],
    work: Callable[[Job], Result],
    *,
    cost: Callable[[Job], float],
    workers: int,
    stop: Stop,
) -> Iterator[Result]:
    """Run jobs on this machine; see `Executor`."""
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


LOCAL = "local"
EXECUTORS: dict[str, Executor] = {LOCAL: run_local}
"""advcomp's own executors, by name."""


def executor_named(name: str) -> Executor:
    """One of ours, or one that another package adds.

    Raises:
        InvalidConfig: Nobody has one of that name.
    """
    if name in EXECUTORS:
        return EXECUTORS[name]
    added = plugins.load(plugins.ExtensionGroup.EXECUTORS, name)
    if added is None:
        known = [*EXECUTORS, *plugins.names(plugins.ExtensionGroup.EXECUTORS, EXECUTORS)]
        raise InvalidConfig(f"--executor must be one of {', '.join(known)}; got {name}")
    return cast(Executor, added)
