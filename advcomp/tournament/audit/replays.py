"""Which runs an audit does again, and under which other conditions.

A replay is an order of the run's own kind: the same entry, limits, view and sandbox, and names,
orders and places that come from the key. What it shows is images of the run's waves, so that a
label of the run is there to be compared with each of its own; but for clean images whose pixels
were moved by one level.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from advcomp.rules.images import decode_png, encode_png
from advcomp.scoring.audit.finding import AuditCheck
from advcomp.tournament.job.defense_views import CLEAN, Item, Shard
from advcomp.tournament.job.opaque import Key
from advcomp.tournament.job.orders import Order, Orders
from advcomp.tournament.job.plan import AttackJob, DefenseJob, Job
from advcomp.tournament.job.waves import WaveImages

SHARE = 0.03
"""Share of each defense's shards and of each attack's jobs that are replayed by default."""

ALONE = 8
"""Images of a defense that are shown one at a time: each costs a start."""

NUDGED_PIXELS = 4
"""Pixels of a clean image that are moved by one level, at most."""

OF_ATTACKS = (
    AuditCheck.AGAIN,
    AuditCheck.RENAMED,
    AuditCheck.REORDERED,
    AuditCheck.SUBSET,
    AuditCheck.NUDGED,
    AuditCheck.UNTOUCHED,
)
REMADE = (AuditCheck.RENAMED, AuditCheck.NUDGED)
"""Conditions in which what attacks make is shown to the defenses."""
OF_DEFENSES = (
    *(
        AuditCheck.AGAIN,
        AuditCheck.RENAMED,
        AuditCheck.MIXED,
        AuditCheck.ALONE,
        AuditCheck.BATCHES,
    ),
    *(AuditCheck.NUDGED, AuditCheck.UNTOUCHED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A job that is run once more.

    Args:
        check: The condition that is another one.
        of: The run's own job.
        job: What is run; its id, from which names derive, is another where they must be.
        number: Which of the replays of the same job under this condition it is.
        backwards: Whether its files are written in the opposite order.
        nudged: Whether pixels of its images are moved.
        remade: Images that are shown instead of the stored ones, in the order of the items.
    """

    check: AuditCheck
    of: Job
    job: Job
    number: int = 0
    backwards: bool = False
    nudged: bool = False
    remade: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """What it is called while it runs."""
        number = f"-{self.number}" if self.number else ""
        return f"{self.job.name} {self.check}{number}"

    def order(self, orders: Orders) -> Order:
        """All that it needs."""
        order = orders.of(self.job)
        if self.remade:
            order = replace(
                order, images=tuple(sorted(zip(order.names, self.remade, strict=True)))
            )
        if self.nudged:
            seed = orders.key.offset(1 << 32, "nudge", self.job.id)
            order = replace(order, images=Nudged(order.images, order.height, order.width, seed))
        if self.backwards:
            targets = order.target_classes
            order = replace(
                order,
                images=tuple(reversed(tuple(order.images))),
                target_classes=None if targets is None else _backwards(targets),
            )
        return order


@dataclass(frozen=True, slots=True)
class Nudged:
    """The same images with a few pixels moved by one level, otherwise chosen for each image."""

    images: Iterable[tuple[str, bytes]]
    height: int
    width: int
    seed: int

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for number, (name, png) in enumerate(self.images):
            pixels = decode_png(png, self.height, self.width).copy()
            draw = np.random.default_rng([self.seed, number])
            count = min(NUDGED_PIXELS, pixels.shape[0] * pixels.shape[1])
            for place in draw.choice(pixels.shape[0] * pixels.shape[1], count, replace=False):
                pixel = pixels.reshape(-1, 3)[place]
                pixel[:] = np.where(pixel == 255, 254, pixel + 1)
            yield name, encode_png(pixels)


def chosen(jobs: Sequence[Job], share: float, key: Key) -> list[Job]:
    """A share of an entry's jobs, one at least, chosen by the key."""
    most = math.ceil(share * len(jobs))
    return sorted(jobs, key=lambda job: key.name("audit", job.id))[:most]


def of_attack(job: AttackJob) -> Iterator[Replay]:
    """The replays of one job of an attack."""
    yield Replay(check=AuditCheck.AGAIN, of=job, job=job)
    yield Replay(check=AuditCheck.RENAMED, of=job, job=_renamed(job, AuditCheck.RENAMED))
    yield Replay(check=AuditCheck.REORDERED, of=job, job=job, backwards=True)
    if len(job.images) > 1:
        # Of the same id: every image keeps its name.
        part = replace(job, images=job.images[: math.ceil(len(job.images) / 3)])
        yield Replay(check=AuditCheck.SUBSET, of=job, job=part)
    yield Replay(check=AuditCheck.NUDGED, of=job, job=job, nudged=True)
    yield Replay(check=AuditCheck.UNTOUCHED, of=job, job=job)


def of_defense(job: DefenseJob, wave: WaveImages, key: Key, *, alone: bool) -> Iterator[Replay]:
    """The replays of one shard of a defense.

    Args:
        wave: The images of the job's wave.
        alone: Whether images of it are shown one at a time.
    """
    yield Replay(check=AuditCheck.AGAIN, of=job, job=job)
    yield Replay(check=AuditCheck.RENAMED, of=job, job=_renamed(job, AuditCheck.RENAMED))
    images = list(dict.fromkeys(item.image for item in job.items))
    if wave.exists.any():
        mixed = [_as_any_column(image, job, wave, key) for image in images]
        yield _with(job, AuditCheck.MIXED, mixed)
    order = sorted(job.items, key=lambda item: key.name("alone", job.id, item.image, item.column))
    if len(order) > 1:
        third = math.ceil(len(order) / 3)
        yield _with(job, AuditCheck.BATCHES, order[:third])
        yield _with(job, AuditCheck.BATCHES, order[third:], 1)
    for number, item in enumerate(order[: ALONE if alone and len(order) > 1 else 0]):
        yield _with(job, AuditCheck.ALONE, [item], number)
    clean = _with(job, AuditCheck.NUDGED, [Item(image, CLEAN) for image in images])
    yield replace(clean, nudged=True)
    yield Replay(check=AuditCheck.UNTOUCHED, of=job, job=job)


def of_images(job: DefenseJob, check: AuditCheck, images: Sequence[tuple[int, bytes]]) -> Replay:
    """A defense is shown images that the run does not have: source image, PNG.

    Args:
        check: The condition under which attacks made them.
    """
    items = [Item(image, CLEAN) for image, _ in images]
    shown = _with(job, AuditCheck.GAIN, items, REMADE.index(check))
    return replace(shown, remade=tuple(png for _, png in images))


def _renamed(job: Job, what: str) -> Job:
    """The same job with other names, and so in another order."""
    return replace(job, id=f"{job.id}-{what}")


def _with(job: DefenseJob, check: AuditCheck, items: Sequence[Item], number: int = 0) -> Replay:
    """A replay of the same defense with other images, under names that no other replay has."""
    shown = replace(job, id=f"{job.id}-{check}-{number}", items=Shard.of(items))
    return Replay(check=check, of=job, job=shown, number=number)


def _as_any_column(image: int, job: DefenseJob, wave: WaveImages, key: Key) -> Item:
    """A source image as any column of the wave shows it."""
    columns = [CLEAN, *np.flatnonzero(wave.exists[:, image]).tolist()]
    return Item(image, columns[key.offset(len(columns), "mixed", job.id, image)])


def _backwards(lines: bytes) -> bytes:
    return b"".join(reversed(lines.splitlines(keepends=True)))
