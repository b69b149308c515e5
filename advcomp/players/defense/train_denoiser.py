"""Train denoisers: `python -m advcomp.players.defense.train_denoiser RECIPE.toml [NAME ...]`.

A recipe names denoisers; each is written to `weights/denoisers/NAME.safetensors` beside the
recipe, and the classifiers that it names lie in `weights/`. Every batch is attacked anew: by FGSM
or its iterative form, on a network and at a budget that are drawn, and one batch in three is left
clean (Liao et al. 2018, arXiv 1712.02976, section 4.1, have a fixed set of such images). At the
end the command prints how the protected classifier does under attacks that trained nothing.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from advcomp.players.attacks import iterative_fgsm, momentum_iterative_fgsm, pgd
from advcomp.players.classifier.frozen import Model
from advcomp.players.classifier.train_classifier import accuracy, as_tensors
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import LabelledImages, Part, labelled_images
from advcomp.players.denoiser import Denoiser, Guide, guided_loss, load_denoiser
from advcomp.players.ensemble import Ensemble
from advcomp.players.fitting.commands import chosen, exiting_with_problems, recipe_parser
from advcomp.players.fitting.fit import EpochReport, LabelledBatch, fit
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.rules.threat import eps_of
from advcomp.rules.toml_fields import at_least
from advcomp.rules.toml_file import Table, read_toml

NAMES = "names of classifiers in weights/"
Networks = Annotated[tuple[str, ...], at_least(1)]


class DenoiserRecipe(FitRecipe):
    """How one denoiser is trained."""

    classifier: str = Field(description="the name of the classifier in weights/ that guides")
    guide: Guide = Field(default=Guide.LOGITS, strict=False, description='"logits" or "features"')
    widths: Annotated[tuple[Annotated[int, Field(ge=4, multiple_of=4)], ...], at_least(2)] = Field(
        default=(16, 24, 32), strict=False, description="two or more multiples of 4"
    )
    networks: Networks = Field(strict=False, description=NAMES)
    max_epsilon: int = Field(ge=1, le=255, description="pixel levels, 1..255")
    steps: int = Field(default=8, ge=2, description="a number of steps, at least 2")


class DenoiserEvaluation(Table):
    """What the protected classifier is tried with: networks and attacks that trained nothing."""

    networks: Networks = Field(strict=False, description=NAMES)
    max_epsilons: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(
        strict=False, description="a list of pixel levels, 0..255"
    )
    images: int | None = Field(default=None, ge=1, description="how many images, at least 1")


class DenoiserRecipes(Table):
    """A file of recipes, by the denoiser's name."""

    dataset: Literal["digits", "cifar10"] = Field(description='"digits" or "cifar10"')
    evaluation: DenoiserEvaluation = Field(description="a table with networks and max_epsilons")
    denoiser: dict[str, DenoiserRecipe] = Field(
        description="a table for each denoiser, such as [denoiser.conv_net]"
    )


def train_denoiser(
    recipe: DenoiserRecipe,
    images: LabelledImages,
    *,
    classifier: Classifier,
    networks: Sequence[Classifier],
    checkpoint: Path | None = None,
    report: Callable[[EpochReport], None] = lambda epoch: None,
) -> Denoiser:
    """A denoiser trained by a recipe, frozen.

    Args:
        recipe: All but the classifiers.
        images: Clean ones.
        classifier: What guides.
        networks: What the attacks compute gradients on.
        checkpoint, report: As `fit` has them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        denoiser = Denoiser(recipe.widths)

    def loss(denoiser: Denoiser, batch: LabelledBatch) -> Tensor:
        seen = attacked(batch, recipe, networks)
        return guided_loss(denoiser, classifier, batch.clean, seen, recipe.guide)

    fit(denoiser, loss, images, recipe, checkpoint=checkpoint, report=report)
    return denoiser.freeze()


def attacked(
    batch: LabelledBatch, recipe: DenoiserRecipe, networks: Sequence[Classifier]
) -> Tensor:
    """The images of a batch, clean, after FGSM or after iterative FGSM, each as likely.

    Network and budget, 1 to `max_epsilon`, are drawn for the batch.
    """
    steps = (0, 1, recipe.steps)[batch.draws.choice(3)]
    network = networks[batch.draws.choice(len(networks))]
    eps = eps_of(1 + batch.draws.choice(recipe.max_epsilon))
    if not steps:
        return batch.clean
    return iterative_fgsm(network, batch.clean, batch.labels, eps=eps, steps=steps)


def accuracies(
    classifier: Classifier,
    denoiser: Denoiser,
    surrogate: Model,
    images: LabelledImages,
    evaluation: DenoiserEvaluation,
) -> str:
    """A table in Markdown: the classifier alone and behind the denoiser, clean and attacked.

    Attacked by MI-FGSM on the surrogate, by PGD-20 on the classifier, and by PGD-20 on both, which
    know of the denoiser.
    """
    x, labels = (tensor[: evaluation.images] for tensor in as_tensors(images))
    protected = nn.Sequential(denoiser, classifier)
    lines = [f"| attack on {len(labels)} images | alone | denoised |\n", "|---|---|---|\n"]

    def add(name: str, seen: Tensor) -> None:
        alone, denoised = (accuracy(model, seen, labels) for model in (classifier, protected))
        lines.append(f"| {name} | {100 * alone:.1f} % | {100 * denoised:.1f} % |\n")

    add("none", x)
    for level in evaluation.max_epsilons:
        eps = eps_of(level)
        draws = torch.Generator().manual_seed(0)
        add(
            f"MI-FGSM on other networks, {level}/255",
            momentum_iterative_fgsm(surrogate, x, labels, eps=eps),
        )
        for name, model in (("the classifier", classifier), ("both", protected)):
            attacked = pgd(model, x, labels, eps=eps, steps=20, generator=draws)
            add(f"PGD-20 on {name}, {level}/255", attacked)
    return "".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what the recipe names, then print how well each does; exits 1 with all problems."""
    parser = recipe_parser("advcomp.players.defense.train_denoiser", __doc__, of="denoisers")
    options = parser.parse_args(argv)
    with exiting_with_problems():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    recipes = read_toml(options.recipe, DenoiserRecipes)
    names = chosen(options.recipe, options.names, recipes.denoiser)
    weights = options.recipe.parent / "weights"
    (weights / "denoisers").mkdir(parents=True, exist_ok=True)
    surrogate = Ensemble(_load(weights, recipes.evaluation.networks))
    tournament = labelled_images(recipes.dataset, Part.TOURNAMENT, options.source)
    for name in names:
        one = recipes.denoiser[name]
        (classifier,) = _load(weights, [one.classifier])
        path = weights / "denoisers" / f"{name}.safetensors"
        if not options.evaluate:
            denoiser = train_denoiser(
                one,
                labelled_images(recipes.dataset, Part.TRAINING, options.source),
                classifier=classifier,
                networks=_load(weights, one.networks),
                checkpoint=options.recipe.parent / "checkpoints" / f"denoiser_{name}.pt",
                report=lambda epoch, name=name: _tell(name, epoch),  # type: ignore[misc]
            )
            denoiser.save(path)
        table = accuracies(
            classifier, load_denoiser(path), surrogate, tournament, recipes.evaluation
        )
        print(f"{name}\n\n{table}", flush=True)


def _load(weights: Path, names: Sequence[str]) -> list[Classifier]:
    return [load_classifier(weights / f"{name}.safetensors") for name in names]


def _tell(name: str, epoch: EpochReport) -> None:
    print(f"{name}: epoch {epoch.number} of {epoch.of}, loss {epoch.loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
