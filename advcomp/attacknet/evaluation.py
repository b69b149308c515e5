"""How well a network does on images and classifiers that do not train it, and what it draws."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advcomp.attacknet.data import AttackBatch, validation_batch
from advcomp.attacknet.network.generator import AdversarialGenerator, rounded_to_levels
from advcomp.attacknet.recipe import AttackNetworkRecipe
from advcomp.attacknet.rivals import Rivals
from advcomp.players.classifiers import Classifier
from advcomp.players.image.pixels import quantise
from advcomp.players.training_images import TrainingImages
from advcomp.rules.durable import write_durably
from advcomp.rules.images import Pixels, encode_png
from advcomp.training.progress import ALL_CLASSIFIERS, EvaluationReport, Gap, RateOf
from advcomp.training.ranks import Ranks

_CLEAN = 0
_SHOWN = 8
_DEVIATIONS = 1.96
"""Half the width of a 95 % interval of a mean over many images."""

Make = Callable[[AttackBatch], Tensor]


def evaluate(
    recipe: AttackNetworkRecipe,
    generator: AdversarialGenerator,
    classifiers: Mapping[str, Classifier],
    images: TrainingImages,
    ranks: Ranks,
    *,
    step: int,
    picture: Path,
    rivals: Rivals | None = None,
) -> EvaluationReport:
    """Misclassification of rounded images; every rank takes a share of them.

    Args:
        picture: Where the first rank writes examples.
        rivals: What the network is compared with, image by image.
    """
    judges = _Judges(recipe, classifiers, images, ranks, next(generator.parameters()).dtype)
    clean = judges.hits(_CLEAN, lambda batch: batch.clean)
    own = {
        level: judges.hits(level, partial(_adversarial, generator, ranks=ranks))
        for level in recipe.threat.max_epsilons
    }
    rates = {
        (name, level): rate
        for level, hits in own.items()
        for name, rate in zip(classifiers, judges.means(hits), strict=True)
    }
    clean_rates = dict(zip(classifiers, judges.means(clean), strict=True))
    gaps = {} if rivals is None else _gaps(judges, own, rivals)
    if ranks.is_first:
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_durably(picture, encode_png(_examples(recipe, generator, images, ranks)))
    return EvaluationReport(
        step=step,
        of=RateOf.HIT if recipe.threat.targeted else RateOf.MISCLASSIFIED,
        rates=rates,
        clean_rates=clean_rates,
        picture=picture,
        gaps=gaps,
    )


def _gaps(
    judges: "_Judges", own: Mapping[int, Tensor], rivals: Rivals
) -> dict[tuple[str, str, int], Gap]:
    """By rival, classifier and epsilon; and of all classifiers' mean, where there are several."""
    found: dict[tuple[str, str, int], Gap] = {}
    for rival, (level, hits) in product(rivals.attacks, own.items()):
        if (rival, level) not in rivals.hits:
            make = partial(rivals.adversarial, rival, device=judges.ranks.device)
            rivals.hits[rival, level] = judges.hits(level, make)
        theirs, names = rivals.hits[rival, level], list(judges.classifiers)
        if len(names) > 1:
            hits, theirs = (torch.cat([h, h.mean(0, keepdim=True)]) for h in (hits, theirs))
            names.append(ALL_CLASSIFIERS)
        ahead = hits - theirs
        moments = (judges.means(each) for each in (theirs, ahead, ahead.square()))
        for name, rate, gap, square in zip(names, *moments, strict=True):
            variance = max(0.0, square - gap**2) / max(1, len(judges.images) - 1)
            found[rival, name, level] = Gap(
                rate=rate, gap=gap, half_width=_DEVIATIONS * math.sqrt(variance)
            )
    return found


@dataclass(frozen=True, slots=True)
class _Judges:
    """Classifiers that look at this rank's share of the images."""

    recipe: AttackNetworkRecipe
    classifiers: Mapping[str, Classifier]
    images: TrainingImages
    ranks: Ranks
    dtype: torch.dtype

    def hits(self, level: int, make: Make) -> Tensor:
        """1 where a classifier is led astray or, by an attack that aims, to the target class; 0.

        Args:
            make: What the classifiers see, from clean images.

        Returns:
            (classifiers, images of the share), float64.
        """
        if not self.classifiers:
            return torch.zeros(0, 0)
        rows = []
        for batch in self._batches(level):
            x = make(batch).to(self.ranks.device)
            aimed = batch.targets if level != _CLEAN else None
            rows.append(
                torch.stack([_hits(each, x, batch, aimed) for each in self.classifiers.values()])
            )
        empty = torch.zeros(len(self.classifiers), 0).double()
        return torch.cat([empty, *(row.double() for row in rows)], 1)

    def means(self, values: Tensor) -> list[float]:
        """Of each row of (rows, images of the share), over all images of all ranks."""
        if not len(values):
            return []
        totals = self.ranks.total(*values.sum(1).tolist())
        return [total / len(self.images) for total in totals]

    def _batches(self, level: int) -> Iterator[AttackBatch]:
        share, size = self.ranks.share(len(self.images)), self.recipe.training.batch_size
        for at in range(share.start, share.stop, size):
            rows = slice(at, min(at + size, share.stop))
            yield validation_batch(self.recipe, self.images, rows, level, self.dtype)


def _adversarial(generator: AdversarialGenerator, batch: AttackBatch, ranks: Ranks) -> Tensor:
    with torch.no_grad():
        targets = None if batch.targets is None else batch.targets.to(ranks.device)
        x = generator(batch.clean.to(ranks.device), batch.eps.to(ranks.device), targets)
        return rounded_to_levels(x)


@torch.no_grad()
def _hits(classifier: Classifier, x: Tensor, batch: AttackBatch, aimed: Tensor | None) -> Tensor:
    answers = classifier.to_labels(classifier(x).argmax(1)).cpu()
    return answers != batch.labels if aimed is None else answers == aimed


def _examples(
    recipe: AttackNetworkRecipe,
    generator: AdversarialGenerator,
    images: TrainingImages,
    ranks: Ranks,
) -> Pixels:
    """A row for each image: clean, then at each epsilon the adversarial image and the change.

    The change is shown about grey, as large as it can be.
    """
    columns: list[Pixels] = []
    dtype = next(generator.parameters()).dtype
    rows = slice(0, min(_SHOWN, len(images)))
    for level in _some(recipe.threat.max_epsilons):
        batch = validation_batch(recipe, images, rows, level, dtype)
        x = _adversarial(generator, batch, ranks).cpu()
        change = (x - batch.clean) / (2 * batch.eps[0]) + 0.5
        columns += [*([] if columns else [quantise(batch.clean)]), quantise(x), quantise(change)]
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


def _some(levels: Sequence[int]) -> list[int]:
    """The smallest, the middle and the largest."""
    ordered = sorted(levels)
    return sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]})
