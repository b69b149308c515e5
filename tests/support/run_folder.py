"""A run's folder as a referee leaves it on the way, written result by result; nothing is run."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.threat import Schedule
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import LimitTier
from advcomp.scoring.publish import write_results
from advcomp.tournament.config import LimitsTable, LogPolicy, LogsTable, ScoringTable
from advcomp.tournament.job.defense_views import DefenseView
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import attack_jobs, defense_jobs, images_of
from advcomp.tournament.job.waves import WaveImages, load_waves, plan_waves, save_waves
from advcomp.tournament.outcome.collect import collect, current_columns
from advcomp.tournament.outcome.under_way import write_under_way
from advcomp.tournament.store.job_results import JobResult, Store, dump_labels, locked
from advcomp.tournament.store.state import (
    KEY_FILE,
    RESULTS,
    DatasetState,
    EntryState,
    RunState,
    SandboxState,
    save_state,
)

IMAGES = 6
SECRET_ID = "hidden-image"
"""What every ImageId begins with; none is to be shown to anybody."""


class RunFolder:
    """A run of `right` (answers rightly), `wrong` (never does) and two attacks.

    Image k has label 40 + k. Budgets are 8 and 32, so each attack has two jobs of six images.
    """

    def __init__(self, run: Path, *, show: LogPolicy = LogPolicy.SMOKE) -> None:
        self.run, self.show = run, show
        run.mkdir()
        self.store = Store(run)
        self.key = open_key(run / KEY_FILE)
        entries = [
            _entry("noop", SubmissionType.ATTACK, baseline=True),
            _entry("fgsm", SubmissionType.ATTACK, team="red"),
            _entry("right", SubmissionType.DEFENSE),
            _entry("wrong", SubmissionType.DEFENSE, team="blue"),
        ]
        self.state = self._state(entries)
        save_state(run, self.state)

    def reject(self, name: str, note: str) -> None:
        """An entry more, which breaks the contract."""
        bad = _entry(name, SubmissionType.DEFENSE, digest="", rejected=True, notes=(note,))
        self.state = self._state([*self.state.entries, bad])
        save_state(self.run, self.state)

    def attack(
        self,
        name: str,
        max_epsilon: int,
        *,
        verdict: Verdict = Verdict.OK,
        log: bytes = b"",
        **more: object,
    ) -> None:
        """An attack's job ends; it writes every image unless it crashed."""
        (job,) = (
            job
            for job in attack_jobs(self.state)
            if (job.entry.name, job.max_epsilon) == (name, max_epsilon)
        )
        made = [] if verdict is Verdict.CRASHED else [f"{job.id}{k}" for k in job.images]
        digests = tuple(hashlib.sha256(each.encode()).hexdigest() for each in made)
        facts: dict[str, object] = {
            "job": job.name,
            "submission": name,
            "stage": "attack",
            "max_epsilon": max_epsilon,
            "shard": 0,
            "images": len(job.images),
            "valid": len(made),
            "verdict": verdict,
            "wall_seconds": 4.0,
            "png_digests": digests or ("",) * len(job.images),
        }
        self.store.save(job.id, JobResult(**{**facts, **more}), {"log": log})  # type: ignore[arg-type]

    def plan(self) -> None:
        """The attacks are done: their images make a wave."""
        save_waves(self.run, plan_waves((), current_columns(self.state, self.store)))

    def defend(self, name: str, jobs: int | None = None) -> None:
        """The first jobs of a defense end; by default all."""
        planned = [
            (wave, WaveImages(self.state, self.store, wave)) for wave in load_waves(self.run)
        ]
        own = [j for j in defense_jobs(self.state, self.key, planned) if j.entry.name == name]
        answer: Callable[[int], int] = (lambda k: 40 + k) if name == "right" else (lambda k: 99)
        for job in own[:jobs]:
            labels = np.array([answer(item.image) for item in job.items], np.int16)
            result = JobResult(
                job=job.name,
                submission=name,
                stage="defense",
                max_epsilon=None,
                shard=job.shard,
                images=images_of(job),
                valid=images_of(job),
                verdict=Verdict.OK,
                wall_seconds=2.0,
            )
            self.store.save(job.id, result, {"labels.npy": dump_labels(labels), "log": b""})

    def finish(self) -> None:
        """The results are written, without a report."""
        collected = collect(self.state, self.store, self.key, load_waves(self.run))
        write_results(
            self.run / RESULTS,
            collected.results,
            collected.jobs,
            self.state.scoring_options,
            {},
        )

    def play(self) -> None:
        """All of it."""
        for name in ("noop", "fgsm"):
            for max_epsilon in self.state.max_epsilons:
                self.attack(name, max_epsilon)
        self.plan()
        for name in ("right", "wrong"):
            self.defend(name)
        self.finish()

    @contextmanager
    def at_work(self, *jobs: tuple[str, float]) -> Iterator[None]:
        """Somebody works on it; these jobs run, for so many seconds."""
        with locked(self.run):
            write_under_way(self.run, [(job, "", seconds) for job, seconds in jobs])
            yield

    def _state(self, entries: Sequence[EntryState]) -> RunState:
        return RunState(
            name="contest",
            file="contest.toml",
            identity={},
            dataset=DatasetState(
                images_dir="/secret/place",
                digest="d" * 64,
                height=5,
                width=7,
                image_ids=tuple(f"{SECRET_ID}-{k}" for k in range(IMAGES)),
                labels=tuple(40 + k for k in range(IMAGES)),
                target_classes=None,
            ),
            max_epsilons=(8, 32),
            schedule=Schedule.GRID,
            view=DefenseView.LATIN,
            entries=tuple(entries),
            limits=LimitsTable(start_seconds=4, seconds_per_100_images=100),
            sandbox=SandboxState(name="bubblewrap", limit_tier=LimitTier.CGROUP_V2, versions={}),
            scoring=ScoringTable(bootstrap=20),
            logs=LogsTable(show=self.show),
            seed=0,
            key_digest=self.key.digest,
            advcomp_version="0",
            machine={},
        )


def _entry(name: str, kind: SubmissionType, **more: object) -> EntryState:
    facts: dict[str, object] = {"source": "/secret/place", "digest": f"digest-of-{name}"}
    return EntryState(name=name, type=kind, **{**facts, **more})  # type: ignore[arg-type]
