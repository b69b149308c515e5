"""Two claims of the digits demo over training seeds: `python benchmarks/digits_seeds.py FOLDER`.

1. An attack on the ensemble of surrogates fools more than the mean of its members.
2. Adversarial training leaves more right under attack than plain training does.

For each seed the networks of tournament/digits/train.toml are trained anew, on the same 1,197
digits, into FOLDER/SEED (what is there already is used), and attacked on 300 of the tournament's.
A rate is a mean over the budgets 16, 32, 48; an interval is Student's, 95 %, over the seeds: it
speaks of training, not of the choice of images or architectures.
"""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import click
import torch
from torch import Tensor

from advcomp.players.attacks import momentum_iterative_fgsm, pgd
from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.classifier_recipe import read_classifier_recipes
from advcomp.players.classifier.train_classifier import accuracy, as_tensors, train_classifier
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import Part, digits
from advcomp.players.ensemble import Ensemble
from advcomp.players.image.pixels import quantise, to_float
from advcomp.players.training_images import ImageSource, training_images
from advcomp.rules.threat import eps_of

RECIPE = Path(__file__).parents[1] / "tournament" / "digits" / "train.toml"
SURROGATES = ("conv_net_a", "residual_net_a", "mlp_mixer_a")
PLAIN, ADVERSARIAL, OTHER = "conv_net_b", "conv_net_adversarial", "separable_net_b"
MAX_EPSILONS = (16, 32, 48)
IMAGES = 300
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
"""97.5 % quantile of Student's t, by the number of seeds."""


def networks(folder: Path, seed: int) -> dict[str, Classifier]:
    """The recipe's networks, their seeds moved by 100 for each seed of the study."""
    recipe = read_classifier_recipes(RECIPE).classifier
    training = training_images(ImageSource.DIGITS)
    folder.mkdir(parents=True, exist_ok=True)
    trained = {}
    for name in (*SURROGATES, PLAIN, ADVERSARIAL, OTHER):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            own = recipe[name].model_copy(update={"seed": recipe[name].seed + 100 * seed})
            draft = path.with_suffix(".draft")
            found = train_classifier(own, training, folder=folder / f"{name}.training")
            assert found is not None, "stopped"
            found.save(draft)
            draft.replace(path)
        trained[name] = load_classifier(path)
    return trained


def transferred(surrogate: Model, images: Tensor, max_epsilon: int) -> Tensor:
    """Momentum iterative FGSM as the samples run it, after the round trip through pixels."""
    with torch.no_grad():
        seen = surrogate(images).argmax(1)
    eps = eps_of(max_epsilon)
    return to_float(quantise(momentum_iterative_fgsm(surrogate, images, seen, eps=eps)))


def error_rate(surrogate: Model, targets: Sequence[Classifier], x: Tensor, y: Tensor) -> float:
    """Misclassification rate, mean over budgets and targets."""
    return statistics.fmean(
        1 - accuracy(target, adversarial, y)
        for max_epsilon in MAX_EPSILONS
        for adversarial in [transferred(surrogate, x, max_epsilon)]
        for target in targets
    )


def white_box_accuracy(classifier: Classifier, x: Tensor, y: Tensor) -> float:
    """Accuracy under PGD-20, mean over budgets."""
    return statistics.fmean(
        accuracy(
            classifier,
            pgd(
                classifier,
                x,
                y,
                eps=eps_of(max_epsilon),
                steps=20,
                generator=torch.Generator().manual_seed(0),
            ),
            y,
        )
        for max_epsilon in MAX_EPSILONS
    )


def study(trained: dict[str, Classifier], x: Tensor, y: Tensor) -> dict[str, float]:
    """What one seed says, in percent."""
    surrogates = [trained[name] for name in SURROGATES]
    plain, adversarial = trained[PLAIN], trained[ADVERSARIAL]
    targets = [plain, adversarial, trained[OTHER]]
    members = [error_rate(member, targets, x, y) for member in surrogates]
    ensemble = Ensemble(surrogates)
    together = error_rate(ensemble, targets, x, y)
    right = {
        name: 1 - error_rate(ensemble, [trained[name]], x, y) for name in (PLAIN, ADVERSARIAL)
    }
    own = {name: white_box_accuracy(trained[name], x, y) for name in (PLAIN, ADVERSARIAL)}
    rates = {
        "ensemble attack, misclassified": together,
        "mean of its members, misclassified": statistics.fmean(members),
        "best of its members, misclassified": max(members),
        "ensemble - mean of members": together - statistics.fmean(members),
        "ensemble - best member": together - max(members),
        "plain, right on clean images": accuracy(plain, x, y),
        "adversarial, right on clean images": accuracy(adversarial, x, y),
        "plain, right under the ensemble attack": right[PLAIN],
        "adversarial, right under the ensemble attack": right[ADVERSARIAL],
        "adversarial - plain, ensemble attack": right[ADVERSARIAL] - right[PLAIN],
        "plain, right under its own PGD-20": own[PLAIN],
        "adversarial, right under its own PGD-20": own[ADVERSARIAL],
        "adversarial - plain, own PGD-20": own[ADVERSARIAL] - own[PLAIN],
    }
    return {name: 100 * rate for name, rate in rates.items()}


@click.command(help=__doc__.splitlines()[0])
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--seeds", type=click.IntRange(min(STUDENT_T), max(STUDENT_T)), default=5, show_default=True
)
def main(folder: Path, seeds: int) -> None:
    os.nice(10)
    images, labels = as_tensors(digits(Part.TOURNAMENT))
    images, labels = images[:IMAGES], labels[:IMAGES]
    found = []
    for seed in range(1, seeds + 1):
        found.append(study(networks(folder / str(seed), seed), images, labels))
        print(
            f"seed {seed}: " + "; ".join(f"{k} {v:.1f}" for k, v in found[-1].items()), flush=True
        )
    for name in found[0]:
        values = [each[name] for each in found]
        half = STUDENT_T[len(values)] * statistics.stdev(values) / len(values) ** 0.5
        print(f"{name:46} {statistics.fmean(values):6.1f} +- {half:.1f} %")


if __name__ == "__main__":
    main()
