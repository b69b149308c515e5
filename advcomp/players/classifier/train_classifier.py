"""Train classifiers from a recipe: RECIPE.toml and, to choose some, NAMEs.

    python -m advcomp.players.classifier.train_classifier RECIPE.toml [NAME ...]

A recipe names classifiers; each is written to `weights/NAME.safetensors` beside the recipe. The
same recipe gives the same weights on the same machine and versions. A checkpoint follows every
epoch, in `checkpoints/` beside the recipe: the same command goes on after a kill, to the identical
result, and trains nothing that is trained already. Several processes share the work:

    torchrun --nproc-per-node 4 -m advcomp.players.classifier.train_classifier RECIPE.toml
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from advcomp.errors import InvalidConfig
from advcomp.players.attacks import pgd
from advcomp.players.classifier.classifier_recipe import (
    ClassifierEvaluation,
    ClassifierRecipe,
    ClassifierRecipes,
    read_classifier_recipes,
)
from advcomp.players.classifier.frozen import Model
from advcomp.players.classifier.training_losses import loss_of
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import LabelledImages, Part, labelled_images
from advcomp.players.fitting.commands import chosen, exiting_with_problems, recipe_parser
from advcomp.players.fitting.fit import EpochReport, fit
from advcomp.players.image.pixels import to_float
from advcomp.rules.threat import eps_of
from advcomp.training.launch import launched
from advcomp.training.ranks import Ranks, abort_together, joined_ranks

_AT_ONCE = 250
"""Images that an evaluation classifies together."""


def train_classifier(
    recipe: ClassifierRecipe,
    images: LabelledImages,
    *,
    networks: Sequence[Classifier] = (),
    checkpoint: Path | None = None,
    ranks: Ranks | None = None,
    report: Callable[[EpochReport], None] = lambda epoch: None,
) -> Classifier:
    """A classifier trained by a recipe, frozen.

    Args:
        networks: The classifiers that the recipe's objective names.
        checkpoint, ranks, report: As `fit` has them.

    Raises:
        InvalidConfig: No such architecture, or a checkpoint of another recipe.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        classifier = Classifier(
            recipe.architecture, images.classes, input_size=images.levels.shape[1:3]
        )
    loss = loss_of(recipe.objective, networks)
    fit(classifier, loss, images, recipe, checkpoint=checkpoint, ranks=ranks, report=report)
    return classifier.freeze()


def as_tensors(images: LabelledImages) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) in [0, 1] and labels (N,)."""
    return to_float(images.levels), torch.tensor(images.labels)


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


def main(argv: Sequence[str] | None = None) -> None:
    """Train what the recipe names, then print how well each does; exits 1 with all problems."""
    parser = recipe_parser(
        "advcomp.players.classifier.train_classifier", __doc__, of="classifiers"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--checkpoints", type=Path, metavar="DIR", help="instead of beside RECIPE")
    options = parser.parse_args(argv)
    with exiting_with_problems():
        launch = launched()
        with abort_together(launch), joined_ranks(launch, device=options.device) as ranks:
            _run(options, ranks)


def _run(options: argparse.Namespace, ranks: Ranks) -> None:
    recipe = read_classifier_recipes(options.recipe)
    names = chosen(options.recipe, options.names, recipe.classifier)
    folder = options.recipe.parent
    if not options.evaluate:
        images = labelled_images(recipe.dataset, Part.TRAINING, options.source)
        checkpoints = options.checkpoints or folder / "checkpoints"
        for name in names:
            _train_one(recipe, name, images, folder / "weights", checkpoints, ranks)
    if ranks.is_first:
        tournament = labelled_images(recipe.dataset, Part.TOURNAMENT, options.source)
        table = []
        for line in accuracy_table(recipe, names, folder / "weights", tournament, ranks.device):
            print(line, flush=True)
            table.append(f"{line}\n")
        if set(names) == set(recipe.classifier):
            (folder / "accuracies.md").write_text("".join(table), encoding="utf-8")


def _train_one(
    recipe: ClassifierRecipes,
    name: str,
    images: LabelledImages,
    weights: Path,
    checkpoints: Path,
    ranks: Ranks,
) -> None:
    one = recipe.classifier[name]
    files = [weights / f"{network}.safetensors" for network in one.objective.networks]
    if missing := [file.stem for file in files if not file.exists()]:
        raise InvalidConfig(f"{name} needs {', '.join(missing)}; train them first")
    classifier = train_classifier(
        one,
        images,
        networks=[load_classifier(file).to(ranks.device) for file in files],
        checkpoint=checkpoints / f"{name}.pt",
        ranks=ranks,
        report=lambda epoch: _tell(name, epoch) if ranks.is_first else None,
    )
    if ranks.is_first:
        weights.mkdir(exist_ok=True)
        classifier.save(weights / f"{name}.safetensors", dtype=getattr(torch, recipe.stored))
    ranks.barrier()


def _tell(name: str, epoch: EpochReport) -> None:
    print(
        f"{name}: epoch {epoch.number} of {epoch.of}, loss {epoch.loss:.3f}, "
        f"{epoch.images_per_second:,.0f} images/s",
        flush=True,
    )


def accuracy_table(
    recipe: ClassifierRecipes,
    names: Sequence[str],
    weights: Path,
    images: LabelledImages,
    device: torch.device,
) -> Iterator[str]:
    """How well the classifiers in `weights` do: lines of a Markdown table, as they are found."""
    tried = recipe.evaluation
    x, labels = (tensor.to(device) for tensor in as_tensors(images))
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


if __name__ == "__main__":
    main()
