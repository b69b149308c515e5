"""Train the denoisers of a recipe; each is written to `weights/denoisers/NAME.safetensors`.

That is beside the recipe; the classifiers that it names lie in `weights/`. Every batch is attacked
anew: by FGSM or its iterative form, on a network and at a budget that are drawn, and one batch in
three is left clean (Liao et al. 2018, arXiv 1712.02976, section 4.1, have a fixed set of such
images). At the end stands how the protected classifier does under attacks that trained nothing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from advcomp.players.attacks import iterative_fgsm, momentum_iterative_fgsm, pgd
from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.train_classifier import accuracy, as_tensors
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.denoiser import Denoiser, Guide, guided_loss, load_denoiser
from advcomp.players.ensemble import Ensemble
from advcomp.players.fitting.fit import LabelledBatch, fit
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.players.fitting.judging import Judging, ValidationTable, split
from advcomp.players.fitting.order import TrainingOrder, chosen
from advcomp.players.training_images import ImageSource, TrainingImages, evaluation_split
from advcomp.rules.threat import eps_of
from advcomp.rules.toml_fields import at_least, one_of
from advcomp.rules.toml_file import Table, problem, read_toml
from advcomp.training.launch import launched
from advcomp.training.progress import SilentObserver, TrainingObserver
from advcomp.training.ranks import Ranks, abort_together, joined_ranks

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
    held_out: int | None = Field(
        default=None,
        ge=1,
        description="how many images of a folder, the last ones, train nothing; at least 1",
    )


class DenoiserValidation(ValidationTable):
    """What judges a denoiser while it is trained: MI-FGSM on networks, at some budgets."""

    networks: Networks = Field(strict=False, description=NAMES)


class DenoiserRecipes(Table):
    """A file of recipes, by the denoiser's name."""

    dataset: ImageSource = Field(strict=False, description=one_of(ImageSource))
    validation: DenoiserValidation | None = Field(
        default=None, description="a table with a number of images, and networks"
    )
    evaluation: DenoiserEvaluation = Field(description="a table with networks and max_epsilons")
    denoiser: dict[str, DenoiserRecipe] = Field(
        description="a table for each denoiser, such as [denoiser.conv_net]"
    )

    @model_validator(mode="after")
    def _no_network_judges_twice(self) -> Self:
        judges = () if self.validation is None else self.validation.networks
        if both := sorted({*judges} & {*self.evaluation.networks}):
            raise problem(
                "[validation] networks: expected others than those of [evaluation], which give "
                f"the final figure; got {', '.join(both)}"
            )
        return self


def train_denoiser(
    recipe: DenoiserRecipe,
    images: TrainingImages,
    *,
    classifier: Classifier,
    networks: Sequence[Classifier],
    folder: Path,
    ranks: Ranks | None = None,
    observer: TrainingObserver | None = None,
    name: str = "denoiser",
    judging: Judging[Denoiser] | None = None,
) -> Denoiser | None:
    """A denoiser trained by a recipe, frozen; None where somebody stopped it before its end.

    Args:
        recipe: All but the classifiers.
        images: Clean ones.
        classifier: What guides.
        networks: What the attacks compute gradients on.
        folder, ranks, observer, judging: As `fit` has them.
        name: What is told that is trained.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        denoiser = Denoiser(recipe.widths)

    def loss(denoiser: Denoiser, batch: LabelledBatch) -> Tensor:
        seen = attacked(batch, recipe, networks)
        return guided_loss(denoiser, classifier, batch.clean, seen, recipe.guide)

    trained = fit(
        denoiser,
        loss,
        images,
        recipe,
        folder=folder,
        observer=observer or SilentObserver(),
        name=name,
        first_label=images.first_label,
        ranks=ranks,
        judging=judging,
    )
    return None if trained.interrupted else denoiser.freeze()


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
    images: TrainingImages,
    evaluation: DenoiserEvaluation,
) -> str:
    """A table in Markdown: the classifier alone and behind the denoiser, clean and attacked.

    Attacked by MI-FGSM on the surrogate, by PGD-20 on the classifier, and by PGD-20 on both, which
    know of the denoiser.
    """
    x, labels = (tensor[: evaluation.images] for tensor in as_tensors(images))
    labels = labels - images.first_label
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


def train_denoisers(
    order: TrainingOrder, observer: TrainingObserver, tell: Callable[[str], None]
) -> bool:
    """Train what the order names, or go on, then tell how well each does; False where stopped.

    Args:
        observer, tell: Are told how it goes, and a table for each; on the first rank.

    Raises:
        AdvcompError: With several ranks none is raised: the job ends on all of them.
    """
    launch = launched()
    with abort_together(launch), joined_ranks(launch, device=order.device) as ranks:
        recipes = read_toml(order.recipe, DenoiserRecipes)
        names = chosen(order, recipes.denoiser)
        images, held_out = evaluation_split(
            recipes.dataset, order.source, recipes.evaluation.held_out
        )
        shown = observer if ranks.is_first else SilentObserver()
        for name in [] if order.evaluate else names:
            if not _train_one(recipes, name, images, order, ranks, shown):
                return False
        if ranks.is_first:
            for name in names:
                tell(f"{name}\n\n{_tried(recipes, name, order, held_out)}")
    return True


def train_listed(
    recipes: DenoiserRecipes,
    name: str,
    images: TrainingImages,
    *,
    weights: Path,
    folder: Path,
    ranks: Ranks,
    observer: TrainingObserver,
) -> Denoiser | None:
    """Train a denoiser of a file of recipes; see `train_denoiser`.

    Args:
        images: All that the file's dataset has for training; those that judge train nothing.
        weights: Where the classifiers are that the file names.

    Raises:
        InvalidConfig: They are not there, or the file leaves no image to train on.
    """
    recipe, table = recipes.denoiser[name], recipes.validation
    used, judges = split(images, table)

    def loaded(names: Sequence[str]) -> list[Classifier]:
        kept = recipe.precision.kept
        return [each.to(ranks.device, kept) for each in _load(weights, names)]

    (classifier,) = loaded([recipe.classifier])
    judging = None
    if judges is not None and table is not None:
        judging = _judging(name, judges, table, classifier, Ensemble(loaded(table.networks)))
    return train_denoiser(
        recipe,
        used,
        classifier=classifier,
        networks=loaded(recipe.networks),
        folder=folder,
        ranks=ranks,
        observer=observer,
        name=name,
        judging=judging,
    )


def _judging(
    name: str,
    images: TrainingImages,
    table: DenoiserValidation,
    classifier: Classifier,
    surrogate: Model,
) -> Judging[Denoiser]:
    """By what the classifier answers behind the denoiser, of which the attack knows nothing."""

    def attacked(_: Model, clean: Tensor, labels: Tensor, eps: float) -> Tensor:
        return momentum_iterative_fgsm(surrogate, clean, labels, eps=eps, steps=table.steps)

    return Judging(
        name=name,
        images=images,
        table=table,
        answering=lambda denoiser: nn.Sequential(denoiser, classifier),
        attack=attacked,
    )


def _train_one(
    recipes: DenoiserRecipes,
    name: str,
    images: TrainingImages,
    order: TrainingOrder,
    ranks: Ranks,
    observer: TrainingObserver,
) -> bool:
    denoiser = train_listed(
        recipes,
        name,
        images,
        weights=order.weights,
        folder=order.folder / f"denoiser_{name}",
        ranks=ranks,
        observer=observer,
    )
    if denoiser is not None and ranks.is_first:
        path = _file(order, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        denoiser.cpu().save(path)
    ranks.barrier()
    return denoiser is not None


def _tried(
    recipes: DenoiserRecipes, name: str, order: TrainingOrder, images: TrainingImages
) -> str:
    (classifier,) = _load(order.weights, [recipes.denoiser[name].classifier])
    surrogate = Ensemble(_load(order.weights, recipes.evaluation.networks))
    denoiser = load_denoiser(_file(order, name))
    return accuracies(classifier, denoiser, surrogate, images, recipes.evaluation)


def _file(order: TrainingOrder, name: str) -> Path:
    return order.weights / "denoisers" / f"{name}.safetensors"


def _load(weights: Path, names: Sequence[str]) -> list[Classifier]:
    return [load_classifier(weights / f"{name}.safetensors") for name in names]
