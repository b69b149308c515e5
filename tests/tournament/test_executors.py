"""Jobs of one machine: as many at once as are asked for, and no more."""

import threading

import pytest

from advcomp.tournament.job.executors import Stop, run_local


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stage_runs_as_many_boxes_at_once_as_are_asked_for(workers: int) -> None:
    lock, full, over = threading.Lock(), threading.Barrier(workers), threading.Event()
    under_way, counts = set(), []

    def work(job: int) -> None:
        with lock:
            under_way.add(job)
            counts.append(len(under_way))
        full.wait(timeout=60)
        over.wait(0.02)  # time for one too many to come in
        with lock:
            under_way.remove(job)

    list(run_local(range(3 * workers), work, cost=float, workers=workers, stop=Stop()))
    assert max(counts) == workers
