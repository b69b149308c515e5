"""Train small classifiers from a recipe: `python -m advcomp.players.train RECIPE.toml [NAME ...]`.

A recipe names classifiers; each is written to `weights/NAME.safetensors` beside the recipe. The
same recipe gives the same weights on the same machine and versions: every draw comes from the
classifier's seed.
"""

import argparse
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn import functional

from advcomp.errors import InvalidConfig
from advcomp.players.attacks import pgd
from advcomp.players.classifiers import Classifier
from advcomp.players.datasets import LabelledImages, Part, digits
from advcomp.players.pixels import to_float
from advcomp.rules.threat import eps_of


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Adversary(_Table):
    """Adversarial training (Madry et al. 2018, arXiv 1706.06083, equation 2.1).

    The radius grows linearly from 0 over the first `ramp_epochs`: at full radius from the start,
    a network learns to answer the same for every image.
    """

    max_epsilon: int = Field(ge=0, le=255)
    steps: int = Field(ge=1)
    ramp_epochs: int = Field(ge=1)

    def eps(self, epoch: int) -> float:
        """The radius in an epoch, counted from 0."""
        return eps_of(self.max_epsilon) * min(1, (epoch + 1) / self.ramp_epochs)


class ClassifierRecipe(_Table):
    """How to train one classifier."""

    architecture: str
    seed: int
    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    shift: int = Field(default=2, ge=0)
    adversary: Adversary | None = None


class Recipe(_Table):
    """A file of recipes, by the classifier's name."""

    dataset: Literal["digits"]
    classifier: dict[str, ClassifierRecipe]


def read_recipe(path: Path) -> Recipe:
    """The recipes of a TOML file.

    Raises:
        InvalidConfig: Lists all that is wrong with it.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidConfig(f"{path}: expected a readable TOML file: {error}") from error
    except ValidationError as error:
        raise InvalidConfig(
            *(f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        ) from error


def train(recipe: ClassifierRecipe, images: Tensor, labels: Tensor) -> Classifier:
    """A classifier trained on images (N, 3, H, W) in [0, 1] with labels (N,) from 0.

    Adam with decoupled weight decay, the learning rate falling to 0 along a cosine.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        classifier = Classifier(recipe.architecture, int(labels.max()) + 1)
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    for epoch in range(recipe.epochs):
        for index in _batches(len(images), recipe.batch_size, generator):
            clean = random_shift(images[index], recipe.shift, generator)
            x = _attacked(classifier, clean, labels[index], recipe.adversary, epoch, generator)
            optimizer.zero_grad()
            functional.cross_entropy(classifier(x), labels[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return classifier.freeze()


def random_shift(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Move every image by up to `shift` pixels each way; edge pixels are repeated."""
    n, _, height, width = images.shape
    padded = functional.pad(images, (shift,) * 4, mode="replicate")
    top, left = torch.randint(2 * shift + 1, (2, n), generator=generator)
    return torch.stack(
        [padded[i, :, top[i] : top[i] + height, left[i] : left[i] + width] for i in range(n)]
    )


def as_tensors(images: LabelledImages) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) in [0, 1] and labels (N,)."""
    return to_float(images.levels), torch.tensor(images.labels)


@torch.no_grad()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of images (N, 3, H, W) whose class is the label."""
    return float((classifier(images).argmax(1) == labels).float().mean())


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(n, generator=generator)
    return (order[at : at + size] for at in range(0, n, size))


def _attacked(
    classifier: Classifier,
    clean: Tensor,
    labels: Tensor,
    adversary: Adversary | None,
    epoch: int,
    generator: torch.Generator,
) -> Tensor:
    if adversary is None:
        return clean
    eps = adversary.eps(epoch)
    step_size = 2 * eps / adversary.steps
    return pgd(
        classifier,
        clean,
        labels,
        eps=eps,
        steps=adversary.steps,
        step_size=step_size,
        generator=generator,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train what the recipe names, and print how well each does on the tournament's images."""
    parser = argparse.ArgumentParser(prog="python -m advcomp.players.train", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these classifiers")
    options = parser.parse_args(argv)
    recipe = read_recipe(options.recipe)
    if unknown := sorted(set(options.names) - set(recipe.classifier)):
        parser.error(f"{options.recipe} has no classifier named {', '.join(unknown)}")
    weights = options.recipe.parent / "weights"
    weights.mkdir(exist_ok=True)
    training = as_tensors(digits(Part.TRAINING))
    images, labels = as_tensors(digits(Part.TOURNAMENT))
    for name in options.names or recipe.classifier:
        classifier = train(recipe.classifier[name], *training)
        classifier.save(weights / f"{name}.safetensors")
        robust = pgd(classifier, images, labels, eps=eps_of(32), steps=20)
        print(
            f"{name}: clean {accuracy(classifier, images, labels):.3f}, "
            f"PGD-20 at 32/255 {accuracy(classifier, robust, labels):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
