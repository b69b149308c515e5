"""Run one job: stage its inputs, run the submission, read what it left, keep the result."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np

from advcomp.errors import SandboxError
from advcomp.rules.dataset import Dataset, target_class_csv
from advcomp.rules.faults import Reason, tell
from advcomp.rules.images import encode_png
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.threat import project
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import BoxRun, Limits, RunResult, RunSpec, Sandbox
from advcomp.scoring.results import MISSING
from advcomp.tournament.job.defense_views import CLEAN
from advcomp.tournament.job.ingest import (
    NAMES_LISTED,
    RESULT_CSV,
    Ingest,
    label_reasons,
    read_labels,
    unexpected,
)
from advcomp.tournament.job.judge import judge
from advcomp.tournament.job.opaque import Key
from advcomp.tournament.job.plan import AttackJob, DefenseJob, Job, images_of
from advcomp.tournament.job.staging import Staging, stage_images, write_staged
from advcomp.tournament.job.steadiness import Gate
from advcomp.tournament.job.waves import WaveImages
from advcomp.tournament.store.job_results import (
    IMAGES,
    LABELS,
    LOG,
    JobResult,
    Store,
    dump_labels,
    zip_images,
)
from advcomp.tournament.store.state import RunState

Thing = TypeVar("Thing")

logger = logging.getLogger(__name__)

TRIES = 3
"""How often a job is tried when the sandbox, not the submission, fails."""

MISSING_LISTED = 10
UNEXPECTED_LISTED = 5
INPUT, IMAGES_OUT, DATA_OUT = "/input_images", "/output_images", "/output_data"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a run came to: the valid items, further notes, the files to keep.

    Args:
        unexpected: Names in the output folder that nobody asked for. They go to the log only: a
            submission can write opaque names there, which results must not carry.
        reasons: Why items are not valid, one for each.
    """

    valid: int
    notes: tuple[str, ...]
    files: dict[str, bytes]
    unexpected: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()
    png_digests: tuple[str, ...] = ()
    projected_images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Everything that jobs of one run share; its methods may be called from several threads."""

    state: RunState
    dataset: Dataset
    sandbox: Sandbox
    store: Store
    staging: Staging
    key: Key
    entries: Path
    waves: Sequence[WaveImages] = ()
    gate: Gate = field(default_factory=lambda: Gate(None))

    def work(self, job: Job) -> JobResult:
        """Run a job and store its result; three failures of the sandbox are the verdict INFRA."""
        failures: list[str] = []
        for attempt in range(1, TRIES + 1):
            try:
                with self.gate.run_of(job.entry):
                    result, files = self._run(job)
                break
            except SandboxError as error:
                failures.append(str(error))
                logger.warning(
                    "%s: try %d of %d: the sandbox failed", job.name, attempt, TRIES, exc_info=True
                )
        else:
            result, files = _blank(job, Verdict.INFRA), {LOG: b""}
        result = replace(result, notes=(*result.notes, *failures))
        self.store.save(job.id, result, files)
        return result

    def _run(self, job: Job) -> tuple[JobResult, dict[str, bytes]]:
        if isinstance(job, AttackJob):
            return self._run_attack(job)
        return self._run_defense(job)

    def _run_attack(self, job: AttackJob) -> tuple[JobResult, dict[str, bytes]]:
        names = [self.key.name(job.id, image) for image in job.images]
        with self.staging.folder() as folder:
            clean = ((name, self.dataset.image(k)) for name, k in _shuffled(names, job.images))
            stage_images(folder, ((name, encode_png(image)) for name, image in clean))
            targets = self.dataset.target_classes
            if job.entry.type is SubmissionType.TARGETED_ATTACK and targets is not None:
                order = _shuffled(names, job.images)
                text = target_class_csv(
                    [name for name, _ in order], [int(targets[k]) for _, k in order]
                )
                write_staged(folder / "target_class.csv", text.encode())
            spec = self._spec(
                job, (INPUT, IMAGES_OUT, str(job.max_epsilon)), folder, output=IMAGES_OUT
            )
            with self.sandbox.run(spec) as run:
                outcome = self._take_images(job, names, run)
                return _result(job, run.result, outcome, spec.limits)

    def _take_images(self, job: AttackJob, names: Sequence[str], run: BoxRun) -> _Outcome:
        size = self.dataset.height, self.dataset.width
        digests = [""] * len(names)
        projected = [False] * len(names)

        ingest = Ingest(self.sandbox, self.staging)

        def legal_images() -> Iterator[tuple[str, bytes]]:
            for position, adversarial in ingest.images(run.output, names, *size):
                image = job.images[position]
                legal = project(adversarial, self.dataset.image(image), job.max_epsilon)
                projected[position] = not np.array_equal(legal, adversarial)
                png = encode_png(legal)
                digests[position] = sha256(png).hexdigest()
                yield self.dataset.image_ids[image], png

        archive = zip_images(legal_images())
        missing = [
            self.dataset.image_ids[image]
            for image, digest in zip(job.images, digests, strict=True)
            if not digest
        ]
        reasons = tuple(ingest.reasons.values())
        return _Outcome(
            valid=len(names) - len(missing),
            notes=(
                *tell(reasons, "image", f"{self.dataset.width}x{self.dataset.height}"),
                *_missing_note(missing, len(names)),
            ),
            reasons=reasons,
            unexpected=unexpected(run.output, {f"{name}.png" for name in names}),
            files={IMAGES: archive},
            png_digests=tuple(digests),
            projected_images=sum(projected),
        )

    def _run_defense(self, job: DefenseJob) -> tuple[JobResult, dict[str, bytes]]:
        names = [self.key.name(job.id, item.image, item.column) for item in job.items]
        with self.staging.folder() as folder:
            stage_images(folder, self._shard_images(job, names))
            spec = self._spec(job, (INPUT, f"{DATA_OUT}/{RESULT_CSV}"), folder, output=DATA_OUT)
            with self.sandbox.run(spec) as run:
                labels = read_labels(run.output, names)
                missing = [
                    self.dataset.image_ids[item.image]
                    for item, label in zip(job.items, labels, strict=True)
                    if label == MISSING
                ]
                reasons = tuple(label_reasons(run.output, names))
                outcome = _Outcome(
                    valid=len(names) - len(missing),
                    notes=(*tell(reasons, "label"), *_missing_note(missing, len(names))),
                    reasons=reasons,
                    unexpected=unexpected(run.output, {RESULT_CSV}),
                    files={LABELS: dump_labels(labels)},
                )
                return _result(job, run.result, outcome, spec.limits)

    def _shard_images(self, job: DefenseJob, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        order = _shuffled(names, job.items)
        adversarial = iter(
            self.waves[job.wave].read(
                (item.column, item.image) for _, item in order if item.column != CLEAN
            )
        )
        for name, item in order:
            if item.column == CLEAN:
                yield name, encode_png(self.dataset.image(item.image))
            else:
                yield name, next(adversarial)

    def _spec(self, job: Job, arguments: tuple[str, ...], folder: Path, *, output: str) -> RunSpec:
        return RunSpec(
            argv=(f"./{job.entry.entry_point}", *arguments),
            limits=self.state.limits.for_images(images_of(job)),
            code=self.entries / job.entry.digest,
            inputs={INPUT: folder},
            output=output,
            image=job.entry.image,
        )


def _shuffled(names: Sequence[str], things: Sequence[Thing]) -> list[tuple[str, Thing]]:
    """Pairs of name and thing, in the order of the opaque names: that shuffles them."""
    return sorted(zip(names, things, strict=True), key=lambda pair: pair[0])


def _blank(job: Job, verdict: Verdict) -> JobResult:
    return JobResult(
        job=job.name,
        submission=job.entry.name,
        stage="attack" if isinstance(job, AttackJob) else "defense",
        max_epsilon=job.max_epsilon if isinstance(job, AttackJob) else None,
        shard=job.shard,
        images=images_of(job),
        valid=0,
        verdict=verdict,
    )


def _result(
    job: Job, result: RunResult, outcome: _Outcome, limits: Limits
) -> tuple[JobResult, dict[str, bytes]]:
    images = images_of(job)
    verdict = judge(result, images=images, valid=outcome.valid)
    kept = replace(
        _blank(job, verdict),
        valid=outcome.valid,
        exit_code=result.exit_code,
        signal=result.signal,
        wall_seconds=result.wall_s,
        cpu_seconds=result.cpu_s,
        max_rss_bytes=result.max_rss_bytes,
        faults=tuple(Counter(reason.fault for reason in outcome.reasons).most_common()),
        notes=(
            *_time_note(result, limits),
            *result.notes,
            *outcome.notes,
            *_unexpected_note(outcome.unexpected),
        ),
        png_digests=outcome.png_digests,
        projected_images=outcome.projected_images,
    )
    log_bytes = limits.log_bytes
    names = _unexpected_lines(outcome.unexpected)[:log_bytes]
    # At the head, and at its cost where the log is full: its end tells most.
    log = names + result.log[max(0, len(names) + len(result.log) - log_bytes) :]
    return kept, {LOG: log, **outcome.files}


def _time_note(result: RunResult, limits: Limits) -> tuple[str, ...]:
    """For a run that was stopped: whether it computed all that time, or got no processor."""
    if not result.timed_out:
        return ()
    used = "an unknown number of" if result.cpu_s is None else f"{result.cpu_s:.1f}"
    return (
        f"stopped at its limit of {limits.wall_s:.1f} s: {result.wall_s:.1f} s of wall time, "
        f"{used} s of processor time on at most {limits.cpus:g} processor(s)",
    )


def _unexpected_note(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    count = f"{len(names)}{'+' if len(names) == NAMES_LISTED else ''}"
    return (f"ignored {count} unexpected name(s) in the output folder, see the log",)


def _unexpected_lines(names: Sequence[str]) -> bytes:
    if not names:
        return b""
    listed = ", ".join(ascii(name)[:80] for name in names[:UNEXPECTED_LISTED])
    more = ", ..." if len(names) > UNEXPECTED_LISTED else ""
    return f"[ignored in the output folder: {listed}{more}]\n".encode()


def _missing_note(missing: Sequence[str], images: int) -> tuple[str, ...]:
    if not missing:
        return ()
    listed = ", ".join(missing[:MISSING_LISTED])
    more = ", ..." if len(missing) > MISSING_LISTED else ""
    return (f"missing {len(missing)} of {images}: {listed}{more}",)
