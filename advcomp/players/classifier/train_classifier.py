"""Train the classifiers of a recipe; each is written to `weights/NAME.safetensors` beside it.

The same recipe gives the same weights on the same machine and versions, also after stops.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from advcomp.errors import InvalidConfig
from advcomp.players.attacks import pgd
from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.classifier_recipe import (
    ClassifierEvaluation,
    ClassifierRecipe,
    ClassifierRecipes,
    read_classifier_recipes,
)
from advcomp.players.classifier.training_losses import loss_of
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import LabelledImages
from advcomp.players.fitting.fit import fit
from advcomp.players.fitting.judging import Judging, split
from advcomp.players.fitting.order import TrainingOrder, chosen
from advcomp.players.image.pixels import to_float
from advcomp.players.training_images import TrainingImages, evaluation_split
from advcomp.rules.threat import eps_of
from advcomp.training.launch import launched
from advcomp.training.progress import SilentObserver, TrainingObserver
from advcomp.training.ranks import Ranks, abort_together, joined_ranks

_AT_ONCE = 250
"""Images that an evaluation classifies together."""


def train_classifier(
    recipe: ClassifierRecipe,
    images: TrainingImages,
    *,
    folder: Path,
    networks: Sequence[Classifier] = (),
    ranks: Ranks | None = None,
    observer: TrainingObserver | None = None,
    name: str = "classifier",
    judging: Judging[Classifier] | None = None,
) -> Classifier | None:
    """A classifier trained by a recipe, frozen; None where somebody stopped it before its end.

    Args:
        folder: Gets checkpoints and losses; training goes on from the last.
        networks: The classifiers that the recipe's objective names.
        ranks, observer, judging: As `fit` has them.
        name: What is told that is trained.

    Raises:
        InvalidConfig: No such architecture, or a checkpoint of another recipe.
    """
    first = images.first_label
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        classifier = Classifier(
            recipe.architecture,
            images.classes[-1] - first + 1,
            label_offset=first,
            input_size=images.size,
        )
    trained = fit(
        classifier,
        loss_of(recipe.objective, networks),
        images,
        recipe,
        folder=folder,
        observer=observer or SilentObserver(),
        name=name,
        first_label=first,
        ranks=ranks,
        judging=judging,
    )
    return None if trained.interrupted else classifier.freeze()


def as_tensors(images: LabelledImages | TrainingImages) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) in [0, 1] and labels (N,)."""
    return to_float(images.levels[:]), torch.tensor(images.labels)


@torch.no_grad()
def accuracy(classifier: Model, images: Tensor, labels: Tensor) -> float:
    """Share of images (N, 3, H, W) whose class is the label."""
    batches = zip(torch.split(images, _AT_ONCE), torch.split(labels, _AT_ONCE), strict=True)
    right = sum((classifier(x).argmax(1) == label).sum() for x, label in batches)
    return float(right) / len(labels)


def robust_accuracy(
    classifier: Classifier, images: Tensor, labels: Tensor, evaluation: ClassifierEvaluation
) -> float:
    """Accuracy on the first images after PGD on the classifier itself."""
    shown = slice(evaluation.images)
    pairs = zip(
        torch.split(images[shown], _AT_ONCE), torch.split(labels[shown], _AT_ONCE), strict=True
    )
    eps = eps_of(evaluation.max_epsilon)
    attacked = [pgd(classifier, x, label, eps=eps, steps=evaluation.steps) for x, label in pairs]
    return accuracy(classifier, torch.cat(attacked), labels[shown])


def train_classifiers(
    order: TrainingOrder, observer: TrainingObserver, tell: Callable[[str], None]
) -> bool:
    """Train what the order names, or go on, then tell how well each does; False where stopped.

    Args:
        observer, tell: Are told how it goes, and the lines of the table; on the first rank.

    Raises:
        AdvcompError: With several ranks none is raised: the job ends on all of them.
    """
    launch = launched()
    with abort_together(launch), joined_ranks(launch, device=order.device) as ranks:
        recipe = read_classifier_recipes(order.recipe)
        names = chosen(order, recipe.classifier)
        images, held_out = evaluation_split(
            recipe.dataset, order.source, recipe.evaluation.held_out
        )
        shown = observer if ranks.is_first else SilentObserver()
        for name in [] if order.evaluate else names:
            if not _train_one(recipe, name, images, order, ranks, shown):
                return False
        if ranks.is_first:
            _tell_accuracies(recipe, names, order, held_out, ranks, tell)
    return True


def _train_one(
    recipe: ClassifierRecipes,
    name: str,
    images: TrainingImages,
    order: TrainingOrder,
    ranks: Ranks,
    observer: TrainingObserver,
) -> bool:
    classifier = train_listed(
        recipe,
        name,
        images,
        weights=order.weights,
        folder=order.folder / name,
        ranks=ranks,
        observer=observer,
    )
    if classifier is not None and ranks.is_first:
        order.weights.mkdir(exist_ok=True)
        classifier.save(order.weights / f"{name}.safetensors", dtype=getattr(torch, recipe.stored))
    ranks.barrier()
    return classifier is not None


def train_listed(
    recipe: ClassifierRecipes,
    name: str,
    images: TrainingImages,
    *,
    weights: Path,
    folder: Path,
    ranks: Ranks,
    observer: TrainingObserver,
) -> Classifier | None:
    """Train a classifier of a file of recipes; see `train_classifier`.

    Args:
        images: All that the file's dataset has for training; what it holds back trains nothing.
        weights: Where the classifiers are that its objective names.

    Raises:
        InvalidConfig: They are not there, or the file leaves no image to train on.
    """
    one = recipe.classifier[name]
    files = [weights / f"{network}.safetensors" for network in one.objective.networks]
    if missing := [file.stem for file in files if not file.exists()]:
        raise InvalidConfig(f"{name} needs {', '.join(missing)}; train them first")
    if recipe.held_back >= len(images):
        raise InvalidConfig(
            f"held_back: expected fewer than the images, {len(images)}; got {recipe.held_back}"
        )
    used, judges = split(images.part(slice(len(images) - recipe.held_back)), recipe.validation)
    return train_classifier(
        one,
        used,
        folder=folder,
        networks=[load_classifier(file).to(ranks.device, one.precision.kept) for file in files],
        ranks=ranks,
        observer=observer,
        name=name,
        judging=None if judges is None else _judging(recipe, name, judges),
    )


def _judging(recipe: ClassifierRecipes, name: str, images: TrainingImages) -> Judging[Classifier]:
    table = recipe.validation
    assert table is not None

    def attacked(classifier: Model, clean: Tensor, labels: Tensor, eps: float) -> Tensor:
        return pgd(classifier, clean, labels, eps=eps, steps=table.steps)

    return Judging(
        name=name,
        images=images,
        table=table,
        answering=lambda classifier: classifier,
        attack=attacked,
    )


def _tell_accuracies(
    recipe: ClassifierRecipes,
    names: Sequence[str],
    order: TrainingOrder,
    images: TrainingImages,
    ranks: Ranks,
    tell: Callable[[str], None],
) -> None:
    table = []
    for line in accuracy_table(recipe, names, order.weights, images, ranks.device):
        tell(line)
        table.append(f"{line}\n")
    if set(names) == set(recipe.classifier):
        file = order.recipe.parent / "accuracies.md"
        file.write_text("".join(table), encoding="utf-8")


def accuracy_table(
    recipe: ClassifierRecipes,
    names: Sequence[str],
    weights: Path,
    images: TrainingImages,
    device: torch.device,
) -> Iterator[str]:
    """How well the classifiers in `weights` do: lines of a Markdown table, as they are found."""
    tried = recipe.evaluation
    x, labels = (tensor.to(device) for tensor in as_tensors(images))
    labels = labels - images.first_label
    robustly = f"PGD-{tried.steps} at {tried.max_epsilon}/255, first {tried.images or len(labels)}"
    yield f"| classifier | architecture | objective | clean, {len(labels)} images | {robustly} |"
    yield "|---|---|---|---|---|"
    for name in names:
        one = recipe.classifier[name]
        classifier = load_classifier(weights / f"{name}.safetensors").to(device)
        clean = accuracy(classifier, x, labels)
        robust = robust_accuracy(classifier, x, labels, tried)
        yield (
            f"| {name} | {one.architecture} | {one.objective.name} "
            f"| {100 * clean:.1f} % | {100 * robust:.1f} % |"
        )
