"""How well a network does on images and classifiers that do not train it, and what it draws."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advcomp.attacknet.data import AttackBatch, validation_batch
from advcomp.attacknet.network.generator import AdversarialGenerator, rounded_to_levels
from advcomp.attacknet.recipe import AttackNetworkRecipe
from advcomp.players.classifiers import Classifier
from advcomp.players.image.pixels import quantise
from advcomp.players.training_images import TrainingImages
from advcomp.rules.durable import write_durably
from advcomp.rules.images import Pixels, encode_png
from advcomp.training.progress import EvaluationReport
from advcomp.training.ranks import Ranks

_CLEAN = 0
_SHOWN = 8


def evaluate(
    recipe: AttackNetworkRecipe,
    generator: AdversarialGenerator,
    classifiers: Mapping[str, Classifier],
    images: TrainingImages,
    ranks: Ranks,
    *,
    step: int,
    picture: Path,
) -> EvaluationReport:
    """Misclassification of rounded images; every rank takes a share of them.

    Args:
        picture: Where the first rank writes examples.
    """
    share = ranks.share(len(images))
    found: Counter[tuple[str, int]] = Counter()
    for level in (_CLEAN, *recipe.threat.max_epsilons):
        for batch in _batches(recipe, images, share, level, generator):
            x = batch.clean if level == _CLEAN else _adversarial(generator, batch, ranks)
            aimed = batch.targets if level != _CLEAN else None
            for name, classifier in classifiers.items():
                found[name, level] += _hits(classifier, x.to(ranks.device), batch, aimed)
    cells = list(product(classifiers, (_CLEAN, *recipe.threat.max_epsilons)))
    totals = ranks.total(*(found[cell] for cell in cells)) if cells else []
    rates = {cell: total / len(images) for cell, total in zip(cells, totals, strict=True)}
    if ranks.is_first:
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_durably(picture, encode_png(_examples(recipe, generator, images, ranks)))
    return EvaluationReport(
        step=step,
        rates={cell: rate for cell, rate in rates.items() if cell[1] != _CLEAN},
        clean_rates={name: rates[name, _CLEAN] for name in classifiers},
        picture=picture,
        targeted=recipe.threat.targeted,
    )


def _batches(
    recipe: AttackNetworkRecipe,
    images: TrainingImages,
    share: slice,
    level: int,
    generator: AdversarialGenerator,
) -> Iterator[AttackBatch]:
    size = recipe.training.batch_size
    dtype = next(generator.parameters()).dtype
    for at in range(share.start, share.stop, size):
        yield validation_batch(recipe, images, slice(at, min(at + size, share.stop)), level, dtype)


def _adversarial(generator: AdversarialGenerator, batch: AttackBatch, ranks: Ranks) -> Tensor:
    with torch.no_grad():
        targets = None if batch.targets is None else batch.targets.to(ranks.device)
        x = generator(batch.clean.to(ranks.device), batch.eps.to(ranks.device), targets)
        return rounded_to_levels(x)


@torch.no_grad()
def _hits(classifier: Classifier, x: Tensor, batch: AttackBatch, aimed: Tensor | None) -> int:
    answers = classifier.to_labels(classifier(x).argmax(1)).cpu()
    hits = answers != batch.labels if aimed is None else answers == aimed
    return int(hits.sum())


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
