"""Whether boxes got the processors that they were promised."""

from collections.abc import Iterable
from statistics import median
from typing import Protocol

SHORTEST_S = 1.0
"""Runs below it are mostly start-up, which waits for files."""

ENOUGH = 0.5
"""Of a processor, which at least half of the runs should get."""


class Timed(Protocol):
    """A run whose times were taken."""

    @property
    def wall_seconds(self) -> float: ...  # noqa: D102

    @property
    def cpu_seconds(self) -> float | None: ...  # noqa: D102


def processor_share(runs: Iterable[Timed], cpus: float) -> float | None:
    """The median of what runs got of the processor that a busy program gets; None if unknown.

    A program that sleeps or waits for files takes less than it could have; most do not.

    Args:
        runs: Those shorter than `SHORTEST_S` do not count.
        cpus: What the limits allow to each; more than one says nothing of a program that has one
            thread.
    """
    shares = [
        run.cpu_seconds / (run.wall_seconds * min(1, cpus))
        for run in runs
        if run.cpu_seconds is not None and run.wall_seconds >= SHORTEST_S
    ]
    return median(shares) if shares else None


def scarcity(runs: Iterable[Timed], cpus: float) -> str | None:
    """What is to be said where processors were scarce; None where they were not."""
    share = processor_share(runs, cpus)
    if share is None or share >= ENOUGH:
        return None
    return (
        f"Half of the runs got at most {share:.0%} of the processor time that they may use: "
        "something else took it, or more ran at once than there are processors. An entry that is "
        "TIMED_OUT may be so for that alone: run with a smaller `--jobs`, and `advcomp rerun` it."
    )
