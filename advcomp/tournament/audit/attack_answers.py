"""What attacks made in replays, beside what they made in the run."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.images import Pixels, decode_png
from advcomp.scoring.audit.finding import AuditCheck, Finding
from advcomp.scoring.audit.replayed import Images, of_attack
from advcomp.tournament.audit.conduct import Replayed
from advcomp.tournament.audit.endings import Endings
from advcomp.tournament.audit.replays import REMADE
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import AttackJob
from advcomp.tournament.store.job_results import IMAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Remade:
    """An image that an attack made again, from the same image under another name or nearly so.

    Args:
        check: The condition that was another one.
        png: None where it made none.
        is_same: Whether it is the run's.
    """

    check: AuditCheck
    attack: str
    max_epsilon: int
    image: int
    png: bytes | None = field(repr=False)
    is_same: bool


class AttackAnswers:
    """The images of all attacks' replays.

    Args:
        remade: Filled by `take`: what was made under other file names, or of moved pixels.
    """

    def __init__(self, orders: Orders, endings: Endings) -> None:
        self.remade: list[Remade] = []
        self._orders, self._endings = orders, endings
        self._images: dict[tuple[str, AuditCheck], list[Images]] = defaultdict(list)

    def take(self, done: Replayed) -> None:
        """Compare a replay with the run."""
        job, original = done.replay.job, done.replay.of
        assert isinstance(job, AttackJob)
        assert isinstance(original, AttackJob)
        if not self._endings.compare(done):
            return
        result = self._orders.store.load(original.id)
        assert result is not None, f"{original.name}: was replayed, and has no result"
        old = dict(zip(original.images, result.png_digests, strict=True))
        before = np.array([old[image] for image in job.images])
        differs = before != np.array(done.result.png_digests)
        levels = np.full((2, len(before)), np.nan)
        if job.entry.randomised or done.replay.nudged:
            levels = self._levels(original, job, done)
        images = Images(differs=differs, before=levels[0], after=levels[1])
        self._images[job.entry.name, done.replay.check].append(images)
        if done.replay.check in REMADE:
            self.remade += self._made(job, done, differs)

    def findings(self) -> Iterator[Finding]:
        """One for every attack and condition, not judged yet."""
        state = self._orders.state
        randomised = {entry.name: entry.randomised for entry in state.attacks}
        for (name, check), parts in self._images.items():
            yield of_attack(
                check,
                name,
                Images(
                    differs=np.concatenate([part.differs for part in parts]),
                    before=np.concatenate([part.before for part in parts]),
                    after=np.concatenate([part.after for part in parts]),
                ),
                randomised=randomised[name],
                seed=state.seed,
                note=self._endings.note(name, check),
            )

    def _made(
        self, job: AttackJob, done: Replayed, differs: NDArray[np.bool_]
    ) -> Iterator[Remade]:
        with _archive(done) as archive:
            for image, is_other in zip(job.images, differs.tolist(), strict=True):
                yield Remade(
                    check=done.replay.check,
                    attack=job.entry.name,
                    max_epsilon=job.max_epsilon,
                    image=image,
                    # What is the run's is in its store already.
                    png=self._png(archive, image) if is_other else None,
                    is_same=not is_other,
                )

    def _levels(self, original: AttackJob, job: AttackJob, done: Replayed) -> NDArray[np.float64]:
        """Mean perturbations of the run's images and of the replay's, float64 (2, n)."""
        order = done.replay.order(self._orders)
        shown = dict(order.images)
        with self._orders.store.images(original.id) as old, _archive(done) as new:
            levels = [
                (
                    self._level(self._png(old, image), self._orders.dataset.image(image)),
                    self._level(self._png(new, image), self._pixels(shown[name])),
                )
                for name, image in zip(order.names, job.images, strict=True)
            ]
        return np.array(levels).T

    def _level(self, png: bytes | None, shown: Pixels) -> float:
        if png is None:
            return float("nan")
        return float(np.abs(self._pixels(png).astype(np.int16) - shown).mean())

    def _pixels(self, png: bytes) -> Pixels:
        return decode_png(png, self._orders.dataset.height, self._orders.dataset.width)

    def _png(self, archive: zipfile.ZipFile, image: int) -> bytes | None:
        try:
            return archive.read(f"{self._orders.dataset.image_ids[image]}.png")
        except KeyError:
            return None


def _archive(done: Replayed) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(done.files[IMAGES]))
