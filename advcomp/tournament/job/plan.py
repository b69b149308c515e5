"""Which jobs a run consists of.

A job is a small value, and its id is a hash of all that it depends on. So resume is set
difference, a changed entry runs again by itself, and an entry that came later costs only its own
row or column.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.job.defense_views import CLEAN, Item, cut
from advcomp.tournament.job.opaque import Key
from advcomp.tournament.job.waves import Wave, WaveImages
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import EntryState, RunState

ATTACK_IMAGES, ATTACK_PIXEL_BYTES = 500, 32 << 20
"""Images per run of an attack at most, and their pixels: what a crash can cost and what the
referee holds of one run, against start-ups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackJob:
    """One run of an attack at one budget."""

    id: str
    name: str
    entry: EntryState
    max_epsilon: int
    shard: int
    images: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenseJob:
    """One run of a defense on one shard of a wave (index in the run's list of waves)."""

    id: str
    name: str
    entry: EntryState
    wave: int
    shard: int
    items: tuple[Item, ...]


Job = AttackJob | DefenseJob


def attack_jobs(state: RunState) -> Iterator[AttackJob]:
    """Every job of every attack that plays."""
    for entry in state.attacks:
        if entry.rejected:
            continue
        for max_epsilon in state.max_epsilons:
            batches = _batched(state.images_at(max_epsilon), _images_per_attack_run(state))
            for shard, images in enumerate(batches):
                yield AttackJob(
                    id=_attack_id(state, entry, max_epsilon, images),
                    name=f"{entry.name}-eps{max_epsilon}-{shard}",
                    entry=entry,
                    max_epsilon=max_epsilon,
                    shard=shard,
                    images=images,
                )


def defense_jobs(
    state: RunState, key: Key, waves: Sequence[tuple[Wave, WaveImages]]
) -> Iterator[DefenseJob]:
    """Every job of every defense that plays, over all waves."""
    for number, (wave, images) in enumerate(waves):
        modulus = len(wave.columns) + 1
        offsets = [
            key.offset(modulus, wave.digest, image_id) for image_id in state.dataset.image_ids
        ]
        shards = cut(state.view, images.exists, offsets, first_wave=number == 0)
        contents = {shard: _shard_digest(state, images, items) for shard, items in shards.items()}
        for entry in state.defenses:
            if entry.rejected:
                continue
            for shard, items in shards.items():
                yield DefenseJob(
                    id=_job_id(state, entry, {"shard": contents[shard]}),
                    name=f"{entry.name}-wave{number + 1}-{shard}",
                    entry=entry,
                    wave=number,
                    shard=shard,
                    items=items,
                )


def result_of(store: Store, job: Job) -> JobResult | None:
    """The stored result of a job, under the names of now: its entry may have been renamed."""
    result = store.load(job.id)
    if result is None or result.submission == job.entry.name:
        return result
    return replace(result, job=job.name, submission=job.entry.name)


def attack_names(state: RunState) -> dict[str, str]:
    """The id of every job of an attack -> the attack's name."""
    return {job.id: job.entry.name for job in attack_jobs(state)}


def images_of(job: Job) -> int:
    """How many images a job has."""
    return len(job.images) if isinstance(job, AttackJob) else len(job.items)


def cost_of(state: RunState, job: Job) -> float:
    """Seconds that a job may take at most: what it costs next to others."""
    return state.limits.for_images(images_of(job)).wall_s


def _images_per_attack_run(state: RunState) -> int:
    image_bytes = state.dataset.height * state.dataset.width * 3
    return max(1, min(ATTACK_IMAGES, ATTACK_PIXEL_BYTES // image_bytes))


def _attack_id(state: RunState, entry: EntryState, max_epsilon: int, images: Sequence[int]) -> str:
    inputs: dict[str, object] = {
        "max_epsilon": max_epsilon,
        "dataset": state.dataset.digest,
        "images": [state.dataset.image_ids[k] for k in images],
    }
    targets = state.dataset.target_classes
    if entry.type is SubmissionType.TARGETED_ATTACK and targets is not None:
        inputs["target_classes"] = [targets[k] for k in images]
    return _job_id(state, entry, inputs)


def _shard_digest(state: RunState, images: WaveImages, items: Sequence[Item]) -> str:
    contents = sorted(
        f"{state.dataset.image_ids[item.image]} "
        + (
            f"clean {state.dataset.digest}"
            if item.column == CLEAN
            else f"{item.column} {images.png_digest(item.column, item.image)}"
        )
        for item in items
    )
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def _job_id(state: RunState, entry: EntryState, inputs: dict[str, object]) -> str:
    everything = {
        "format": state.format,
        # Copies of one submission under several names are run and told apart.
        "name": entry.first_name,
        "submission": entry.digest,
        "type": entry.type,
        "image": entry.image,
        "inputs": inputs,
        "limits": state.limits.model_dump(),
        "sandbox": state.sandbox.model_dump(mode="json"),
    }
    text = json.dumps(everything, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _batched(images: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    return (tuple(images[start : start + size]) for start in range(0, len(images), size))
