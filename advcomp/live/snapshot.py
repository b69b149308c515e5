"""What a run's folder tells at one moment, as values and as JSON; see docs/reference/events.md.

No true label, no hidden image, no opaque name and no digest is among it, and of a log as much as
the tournament file lets competitors see.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

VERSION = 1
"""Of the events' schema: it grows with each change that could mislead who reads an older one."""

Json = dict[str, object]


class Phase(StrEnum):
    """Where a run is."""

    READING = "reading"
    """Entries are being read; nothing has run yet."""
    ATTACKS = "attacks"
    DEFENSES = "defenses"
    RESULTS = "results"
    """All jobs are done; the results are being written."""
    STOPPED = "stopped"
    """No process works on it, and something is left to do."""
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that runs.

    Args:
        node: Of a cluster; None on the referee's own machine.
        seconds: For how long.
        expected_seconds: What it will take, by the entry's other jobs.
    """

    job: str
    entry: str
    stage: str
    node: str | None
    seconds: float
    expected_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An entry's jobs that have not begun."""

    entry: str
    stage: str
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A line of the leaderboard as it fills.

    Args:
        rank: Within the track, by `score`.
        score: Share won of the answers so far, while the run goes on; the tournament's score once
            it is finished.
        low, high: Its 95 % interval, once the run is finished.
        answers, expected: Labels that there are of an attack's or by a defense, and how many
            there may be at most.
        provisional: Whether it still lacks answers.
    """

    track: str
    rank: int | None
    submission: str
    team: str | None
    baseline: bool
    score: float | int | None
    low: float | int | None
    high: float | int | None
    answers: int
    expected: int
    provisional: bool
    verdict: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A job that is not OK, or (`job` None) an entry that was REJECTED.

    Args:
        why: From a closed list of reasons, or what is wrong with a rejected entry.
        log: The end of its log; None where `[logs] show` does not let it be seen.
    """

    job: str | None
    entry: str
    verdict: str
    seconds: float | None
    why: str
    log: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job that has ended."""

    job: str
    entry: str
    stage: str
    verdict: str
    seconds: float
    images: int
    valid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How many jobs a stage has, as far as they can be planned, and how many have ended."""

    stage: str
    jobs: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """A run at one moment.

    Args:
        at: Seconds since 1970.
        time_left_seconds: Until both stages are done, as far as can be told.
        failures: The latest first; `more_failures` are counted, not shown.
        logs: What `[logs] show` says: smoke, tail or full.
        ended: Every job that has; of no concern to the page.
    """

    tournament: str
    at: float
    phase: Phase
    images: int
    max_epsilons: tuple[int, ...]
    sandbox: str
    remarks: tuple[str, ...]
    stages: tuple[Stage, ...]
    time_left_seconds: float | None
    running: tuple[RunningJob, ...]
    waiting: tuple[Waiting, ...]
    leaderboard: tuple[Standing, ...]
    failures: tuple[Failure, ...]
    more_failures: int
    logs: str
    ended: Mapping[str, Ended]

    def as_json(self) -> Json:
        """All of it but `ended`, as JSON's types."""
        told = asdict(self)
        del told["ended"]
        return {"version": VERSION, "event": "state", **told}

    @property
    def lasting(self) -> object:
        """What is another value when something has happened, and not only time has gone by."""
        return (
            self.phase,
            self.stages,
            [(job.job, job.node) for job in self.running],
            self.waiting,
            self.leaderboard,
            self.failures,
            self.more_failures,
            self.remarks,
        )
