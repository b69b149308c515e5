"""Which jobs a run consists of.

A job is a small value, and its id is a hash of all that it depends on. So resume is set
difference, a changed entry runs again by itself, and an entry that came later costs only its own
row or column.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.job.defense_views import CLEAN, Shard, cut
from advcomp.tournament.job.opaque import Key
from advcomp.tournament.job.waves import Wave, WaveImages
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import EntryState, RunState

ATTACK_IMAGES, ATTACK_PIXEL_BYTES = 1_000, 32 << 20
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
    items: Shard


Job = AttackJob | DefenseJob


def attack_jobs(state: RunState) -> Iterator[AttackJob]:
    """Every job of every attack that plays."""
    for entry in state.attacks:
        if entry.rejected:
            continue
        id_of = _IdOf(state, entry)
        at_once = images_of_an_attack_at_once(state.dataset.height, state.dataset.width)
        for max_epsilon in state.max_epsilons:
            batches = _batched(state.images_at(max_epsilon), at_once)
            for shard, images in enumerate(batches):
                yield AttackJob(
                    id=id_of.of_attack(max_epsilon, images),
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
        modulus, digest = len(wave.columns) + 1, wave.digest
        offsets = [key.offset(modulus, digest, image_id) for image_id in state.dataset.image_ids]
        shards = cut(state.view, images.exists, offsets, first_wave=number == 0)
        contents = {shard: _shard_digest(state, images, items) for shard, items in shards.items()}
        for entry in state.defenses:
            if entry.rejected:
                continue
            id_of = _IdOf(state, entry)
            for shard, items in shards.items():
                yield DefenseJob(
                    id=id_of({"shard": contents[shard]}),
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


def by_entry(jobs: Iterable[Job]) -> Mapping[str, Sequence[Job]]:
    """The jobs of each entry, by its name."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.entry.name, []).append(job)
    return found


def images_of(job: Job) -> int:
    """How many images a job has."""
    return len(job.images) if isinstance(job, AttackJob) else len(job.items)


def cost_of(state: RunState, job: Job) -> float:
    """Seconds that a job may take at most: what it costs next to others."""
    return state.limits.for_images(images_of(job)).wall_s


def images_of_an_attack_at_once(height: int, width: int) -> int:
    """How many images of that size one run of an attack gets, at most."""
    return max(1, min(ATTACK_IMAGES, ATTACK_PIXEL_BYTES // (height * width * 3)))


class _IdOf:
    """The ids of an entry's jobs by their inputs; all else that an id hashes is the same."""

    def __init__(self, state: RunState, entry: EntryState) -> None:
        self._state, self._entry = state, entry
        everything = {
            "format": state.format,
            # Copies of one submission under several names are run and told apart.
            "name": entry.first_name,
            "submission": entry.digest,
            "type": entry.type,
            "image": entry.image,
            "limits": state.limits.model_dump(),
            "sandbox": state.sandbox.model_dump(mode="json"),
        }
        before = {name: value for name, value in everything.items() if name < "inputs"}
        after = {name: value for name, value in everything.items() if name > "inputs"}
        self._before = f'{json.dumps(before, sort_keys=True)[:-1]}, "inputs": '
        self._after = f", {json.dumps(after, sort_keys=True)[1:]}"

    def __call__(self, inputs: Mapping[str, object]) -> str:
        text = f"{self._before}{json.dumps(inputs, sort_keys=True)}{self._after}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def of_attack(self, max_epsilon: int, images: Sequence[int]) -> str:
        """The id of one run of an attack."""
        dataset = self._state.dataset
        inputs: dict[str, object] = {
            "max_epsilon": max_epsilon,
            "dataset": dataset.digest,
            "images": [dataset.image_ids[k] for k in images],
        }
        targets = dataset.target_classes
        if self._entry.type is SubmissionType.TARGETED_ATTACK and targets is not None:
            inputs["target_classes"] = [targets[k] for k in images]
        return self(inputs)


def _shard_digest(state: RunState, images: WaveImages, items: Shard) -> str:
    clean, ids = f"clean {state.dataset.digest}", state.dataset.image_ids
    contents = sorted(
        f"{ids[image]} {clean}" if column == CLEAN else f"{ids[image]} {column} {png}"
        for image, column, png in zip(
            items.images.tolist(), items.columns.tolist(), images.png_digests(items), strict=True
        )
    )
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def _batched(images: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    return (tuple(images[start : start + size]) for start in range(0, len(images), size))
