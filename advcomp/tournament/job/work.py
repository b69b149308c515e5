"""Do one job: stage its inputs, run the submission, read what it left."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from advcomp.errors import SandboxError
from advcomp.rules.faults import Reason, tell
from advcomp.rules.images import decode_png, encode_png
from advcomp.rules.threat import project
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import BoxRun, Limits, RunResult, RunSpec, Sandbox
from advcomp.scoring.results import MISSING
from advcomp.tournament.job.ingest import (
    NAMES_LISTED,
    RESULT_CSV,
    Ingest,
    label_reasons,
    read_labels,
    unexpected,
)
from advcomp.tournament.job.judge import verdict_on
from advcomp.tournament.job.orders import Order, Orders
from advcomp.tournament.job.plan import AttackJob, DefenseJob, Job, images_of
from advcomp.tournament.job.staging import Staging, stage_images, write_staged
from advcomp.tournament.job.steadiness import Gate
from advcomp.tournament.store.job_results import (
    IMAGES,
    LABELS,
    LOG,
    JobResult,
    dump_labels,
    zip_images,
)

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
class Bench:
    """Where jobs are done: a sandbox ready; its methods may be called from several threads."""

    sandbox: Sandbox
    staging: Staging
    gate: Gate = field(default_factory=lambda: Gate(None))

    def carry_out(self, order: Order) -> tuple[JobResult, dict[str, bytes]]:
        """Run a job: its result, and the files to keep of it.

        Three failures of the sandbox are the verdict INFRA.
        """
        failures: list[str] = []
        for attempt in range(1, TRIES + 1):
            try:
                with self.gate.run_of(order.job.entry):
                    result, files = self._run(order, order.job)
                break
            except SandboxError as error:
                failures.append(str(error))
                logger.warning(
                    "%s: try %d of %d: the sandbox failed",
                    order.job.name,
                    attempt,
                    TRIES,
                    exc_info=True,
                )
        else:
            return failed(order.job, failures)
        return replace(result, notes=(*result.notes, *failures)), files

    def _run(self, order: Order, job: Job) -> tuple[JobResult, dict[str, bytes]]:
        if isinstance(job, AttackJob):
            return self._run_attack(order, job)
        return self._run_defense(order, job)

    def _run_attack(self, order: Order, job: AttackJob) -> tuple[JobResult, dict[str, bytes]]:
        clean = dict(order.images)
        with self.staging.folder() as folder:
            stage_images(folder, clean.items())
            if order.target_classes is not None:
                write_staged(folder / "target_class.csv", order.target_classes)
            spec = _spec(
                order, (INPUT, IMAGES_OUT, str(job.max_epsilon)), folder, output=IMAGES_OUT
            )
            with self.sandbox.run(spec) as run:
                outcome = self._take_images(order, job.max_epsilon, clean, run)
                return _result(job, run.result, outcome, spec.limits)

    def _take_images(
        self, order: Order, max_epsilon: int, clean: Mapping[str, bytes], run: BoxRun
    ) -> _Outcome:
        names, size = order.names, (order.height, order.width)
        digests = [""] * len(names)
        projected = [False] * len(names)

        ingest = Ingest(self.sandbox, self.staging)

        def legal_images() -> Iterator[tuple[str, bytes]]:
            for position, adversarial in ingest.images(run.output, names, *size):
                original = decode_png(clean[names[position]], *size)
                legal = project(adversarial, original, max_epsilon)
                projected[position] = not np.array_equal(legal, adversarial)
                png = encode_png(legal)
                digests[position] = sha256(png).hexdigest()
                yield order.image_ids[position], png

        archive = zip_images(legal_images())
        missing = [
            image_id
            for image_id, digest in zip(order.image_ids, digests, strict=True)
            if not digest
        ]
        reasons = tuple(ingest.reasons.values())
        return _Outcome(
            valid=len(names) - len(missing),
            notes=(
                *tell(reasons, "image", f"{order.width}x{order.height}"),
                *_missing_note(missing, len(names)),
            ),
            reasons=reasons,
            unexpected=unexpected(run.output, {f"{name}.png" for name in names}),
            files={IMAGES: archive},
            png_digests=tuple(digests),
            projected_images=sum(projected),
        )

    def _run_defense(self, order: Order, job: DefenseJob) -> tuple[JobResult, dict[str, bytes]]:
        names = order.names
        with self.staging.folder() as folder:
            stage_images(folder, order.images)
            spec = _spec(order, (INPUT, f"{DATA_OUT}/{RESULT_CSV}"), folder, output=DATA_OUT)
            with self.sandbox.run(spec) as run:
                labels = read_labels(run.output, names)
                missing = [
                    image_id
                    for image_id, label in zip(order.image_ids, labels, strict=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Does the jobs of one run here; its methods may be called from several threads."""

    orders: Orders
    bench: Bench

    def work(self, job: Job) -> JobResult:
        """Run a job and store its result."""
        result, files = self.bench.carry_out(self.orders.of(job))
        self.orders.store.save(job.id, result, files)
        return result


def failed(job: Job, failures: Sequence[str]) -> tuple[JobResult, dict[str, bytes]]:
    """The result of a job that could not be run for our own fault, and its files."""
    return replace(_blank(job, Verdict.INFRA), notes=tuple(failures)), {LOG: b""}


def _spec(order: Order, arguments: tuple[str, ...], folder: Path, *, output: str) -> RunSpec:
    entry = order.job.entry
    return RunSpec(
        argv=(f"./{entry.entry_point}", *arguments),
        limits=order.limits,
        code=order.entries / entry.digest,
        inputs={INPUT: folder},
        output=output,
        image=entry.image,
    )


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
    verdict = verdict_on(result, images=images, valid=outcome.valid)
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
