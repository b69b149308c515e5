"""Carries replays out: with the run's own sandbox, limits, staging and ingest; stores nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from advcomp.tournament.audit.replays import Replay
from advcomp.tournament.job.executors import Stop, run_local
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import cost_of
from advcomp.tournament.job.steadiness import emptied_gate, opened_gate
from advcomp.tournament.job.work import Bench
from advcomp.tournament.runner import RunObserver
from advcomp.tournament.store.job_results import JobResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A replay, how it ended, and what it left."""

    replay: Replay
    result: JobResult
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conductor:
    """Does replays, stage by stage: attacks alone, or defenses alone, as in the run.

    Args:
        workers: Sandboxes at once.
    """

    orders: Orders
    bench: Bench
    workers: int
    observer: RunObserver
    stop: Stop

    def do(self, title: str, replays: Sequence[Replay]) -> Iterator[Replayed]:
        """Do replays under the run's own care for the page cache, several at once."""
        state = self.orders.state
        if not replays:
            return
        self._begin(title, replays)
        with opened_gate(
            self.bench.sandbox,
            state.entries,
            boxes=self.workers,
            memory_bytes=state.limits.memory,
        ) as gate:
            gate.begin_stage()
            work = self._work(replace(self.bench, gate=gate))
            for done in run_local(
                replays, work, cost=self._cost, workers=self.workers, stop=self.stop
            ):
                yield self._told(done)

    def do_untouched(self, title: str, stages: Sequence[Sequence[Replay]]) -> Iterator[Replayed]:
        """Do replays one after the other, in a page cache without what was read before.

        All of it is dropped before each stage, and before another run of the same team.
        Yields nothing where the sandbox does not say what its boxes share.

        Args:
            stages: Attacks alone, and defenses alone.
        """
        replays = [replay for stage in stages for replay in stage]
        if not replays:
            return
        with emptied_gate(self.bench.sandbox, self.orders.state.entries) as gate:
            if gate is None:
                return
            self._begin(title, replays)
            work = self._work(replace(self.bench, gate=gate))
            for stage in stages:
                gate.begin_stage()
                for replay in stage:
                    if self.stop:
                        return
                    yield self._told(work(replay))

    def _begin(self, title: str, replays: Sequence[Replay]) -> None:
        self.observer.stage(title, len(replays), 0, sum(map(self._cost, replays)), 0.0)

    def _cost(self, replay: Replay) -> float:
        return cost_of(self.orders.state, replay.job)

    def _work(self, bench: Bench) -> Callable[[Replay], Replayed]:
        def work(replay: Replay) -> Replayed:
            self.observer.started(replay.name)
            result, files = bench.carry_out(replay.order(self.orders))
            return Replayed(replay=replay, result=replace(result, job=replay.name), files=files)

        return work

    def _told(self, done: Replayed) -> Replayed:
        self.observer.finished(done.result, self._cost(done.replay))
        return done
