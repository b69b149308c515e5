"""What one job needs, put together where the run is planned: enough to do it anywhere.

Opaque names are derived here, from the key; an order carries them and not the key, and no label.
Images are read when they are asked for: an order says where they lie until `packed` takes them in.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from advcomp.rules.dataset import Dataset, target_class_csv
from advcomp.rules.submission_type import SubmissionType
from advcomp.sandbox.base import Limits
from advcomp.tournament.job.defense_views import CLEAN
from advcomp.tournament.job.opaque import Key
from advcomp.tournament.job.plan import AttackJob, Job, images_of
from advcomp.tournament.job.waves import WaveImages
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import RunState

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One job with all that it reads.

    Args:
        entries: The folder of the entries' copies.
        height, width: Of every image.
        names: The opaque name of each image of the job.
        image_ids: The ImageId of each image of the job.
        images: (opaque name, canonical PNG), in the order in which they are written: it shuffles
            them. They may be asked for more than once.
        target_classes: The content of target_class.csv, for a targeted attack.
    """

    job: Job
    limits: Limits
    entries: Path
    height: int
    width: int
    names: tuple[str, ...]
    image_ids: tuple[str, ...]
    images: Iterable[tuple[str, bytes]]
    target_classes: bytes | None = None

    def packed(self) -> Self:
        """The same, with the images themselves in it."""
        return replace(self, images=tuple(self.images))


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Makes the orders of a run's jobs; used by many threads."""

    state: RunState
    dataset: Dataset
    store: Store
    key: Key
    entries: Path
    waves: Sequence[WaveImages] = ()

    def of(self, job: Job) -> Order:
        """All that a job needs."""
        names = self._names(job)
        return Order(
            job=job,
            limits=self.state.limits.for_images(images_of(job)),
            entries=self.entries,
            height=self.dataset.height,
            width=self.dataset.width,
            names=names,
            image_ids=tuple(self.dataset.image_ids[k] for k in _images(job)),
            images=self._stored(job, names),
            target_classes=self._target_classes(job, names),
        )

    def _names(self, job: Job) -> tuple[str, ...]:
        if isinstance(job, AttackJob):
            return tuple(self.key.name(job.id, image) for image in job.images)
        return tuple(self.key.name(job.id, item.image, item.column) for item in job.items)

    def _stored(self, job: Job, names: Sequence[str]) -> "StoredImages":
        places = shuffled(names, self._places(job))
        clean = [place.image for _, place in places if place.folder is None]
        return StoredImages(
            dataset=self.dataset.part(sorted({*clean})),
            store=self.store,
            image_ids={place.image: self.dataset.image_ids[place.image] for _, place in places},
            places=tuple(places),
        )

    def _places(self, job: Job) -> list["Place"]:
        """Where each image of a job lies."""
        if isinstance(job, AttackJob):
            return [Place(image) for image in job.images]
        wave = self.waves[job.wave]
        return [
            Place(item.image)
            if item.column == CLEAN
            else Place(item.image, wave.folder(item.column, item.image), digest)
            for item, digest in zip(job.items, wave.png_digests(job.items), strict=True)
        ]

    def _target_classes(self, job: Job, names: Sequence[str]) -> bytes | None:
        targets = self.dataset.target_classes
        if targets is None or job.entry.type is not SubmissionType.TARGETED_ATTACK:
            return None
        order = shuffled(names, _images(job))
        text = target_class_csv([name for name, _ in order], [int(targets[k]) for _, k in order])
        return text.encode()


class Place(NamedTuple):
    """Where an image of a job lies.

    Args:
        image: Its source image.
        folder: In the store; None where it is a clean one, of the dataset.
        digest: SHA-256 of what the store has.
    """

    image: int
    folder: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImages:
    """Images of a job, read one after the other from the dataset's folder and from the store.

    Args:
        dataset: Holds the clean ones.
        image_ids: Index of a source image in the whole dataset -> its ImageId.
        places: Opaque name, and where the image lies.
    """

    dataset: Dataset
    store: Store
    image_ids: Mapping[int, str]
    places: tuple[tuple[str, Place], ...]

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """All of them.

        Raises:
            RunConflict: The store does not have one as it was written.
        """
        index = {image_id: k for k, image_id in enumerate(self.dataset.image_ids)}
        adversarial = self.store.read_images(
            (place.folder, self.image_ids[place.image])
            for _, place in self.places
            if place.folder is not None
        )
        for name, place in self.places:
            if place.folder is None:
                yield name, self.dataset.png(index[self.image_ids[place.image]])
                continue
            png = next(adversarial)
            if sha256(png).hexdigest() != place.digest:
                raise self.store.damaged(place.folder)
            yield name, png


def shuffled(names: Sequence[str], things: Sequence[Thing]) -> list[tuple[str, Thing]]:
    """Pairs of name and thing, in the order of the opaque names: that shuffles them."""
    return sorted(zip(names, things, strict=True), key=lambda pair: pair[0])


def _images(job: Job) -> Sequence[int]:
    """The source image of each item of a job."""
    return job.images if isinstance(job, AttackJob) else job.items.images.tolist()
