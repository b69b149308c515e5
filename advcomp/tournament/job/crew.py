"""Who does the jobs of a run, stage by stage: boxes of this machine, or the nodes of a cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from advcomp.sandbox.cache.steady import CacheState
from advcomp.tournament.job.executors import Executor, Stop
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import Job
from advcomp.tournament.job.steadiness import opened_gate
from advcomp.tournament.job.work import Bench, Worker
from advcomp.tournament.outcome.under_way import UnderWayHere, forget_under_way
from advcomp.tournament.store.job_results import JobResult
from advcomp.tournament.store.state import EntryState


class Crew(Protocol):
    """Does jobs, and keeps their results in the store of the orders."""

    def get_ready(self) -> None:
        """Begin with what must be done before the first job, while others do something else."""
        ...

    def do(
        self,
        orders: Orders,
        jobs: Sequence[Job],
        *,
        cost: Callable[[Job], float],
        stop: Stop,
        met: Callable[[CacheState], None],
        began: Callable[[str], None],
    ) -> Iterator[JobResult]:
        """Do all jobs of one stage, at least one; yield each one's result once it is stored.

        Args:
            orders: Of the run.
            jobs: Attacks alone, or defenses alone.
            cost: Seconds that a job may take at most.
            stop: Once it is set, no more jobs are begun.
            met: Told how far the page cache is kept, before a job runs under it.
            began: Told a job's name when it begins, from any thread.
        """
        ...


class LocalCrew:
    """The boxes of this machine.

    Args:
        bench: Where jobs are done.
        executor: What carries them there.
        boxes: How many run at once, at most.
        held: Holds what is opened until the run ends.
    """

    def __init__(self, bench: Bench, executor: Executor, *, boxes: int, held: ExitStack) -> None:
        self._bench, self._executor, self._boxes, self._held = bench, executor, boxes, held
        self._is_steady = False

    def get_ready(self) -> None:
        """Nothing: what is to be done here would be in the way of what is done meanwhile."""

    def do(
        self,
        orders: Orders,
        jobs: Sequence[Job],
        *,
        cost: Callable[[Job], float],
        stop: Stop,
        met: Callable[[CacheState], None],
        began: Callable[[str], None],
    ) -> Iterator[JobResult]:
        """Do jobs here; see `Crew`."""
        self._steady_the_cache(orders.state.entries, orders.state.limits.memory)
        met(self._bench.gate.state)
        worker = Worker(orders=orders, bench=self._bench)
        run = orders.store.run
        here = UnderWayHere(run)

        def work(job: Job) -> JobResult:
            began(job.name)
            with here.doing(job.name):
                return worker.work(job)

        try:
            yield from self._executor(jobs, work, cost=cost, workers=self._boxes, stop=stop)
        finally:
            forget_under_way(run)

    def _steady_the_cache(self, entries: Sequence[EntryState], memory_bytes: int) -> None:
        """Have the page cache in its one state before the first run of a stage."""
        if not self._is_steady:
            gate = opened_gate(
                self._bench.sandbox, entries, boxes=self._boxes, memory_bytes=memory_bytes
            )
            self._bench = replace(self._bench, gate=self._held.enter_context(gate))
            self._is_steady = True
        self._bench.gate.begin_stage()
