"""A step of the trainer beside the same step written by hand: `python benchmarks/train_step.py`.

By hand, a step draws its images, moves them, does forward, backward, AdamW with a schedule and,
for the attack network, clipping and the average, and reads the loss, in plain PyTorch: no ranks,
no addresses of draws, no looking for what is not finite. Both train on the digits, in one process
and step by step in turn. What is printed is the median over the rounds of the trainer's quickest
step divided by the other's in the same round; time is the processor's, with one thread: in that
other programs show least.

Exits 1 where a median is above 1.1.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional

from advcomp.attacknet.assembly import fresh_generator, target_classifiers
from advcomp.attacknet.data import load_images
from advcomp.attacknet.recipe import AttackNetworkRecipe, load_network_recipe
from advcomp.attacknet.task import attack_network_task
from advcomp.players.classifier.training_losses import clean_cross_entropy
from advcomp.players.classifiers import Classifier
from advcomp.players.fitting.fit import FitTask
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.players.image.pixels import to_float
from advcomp.players.training_images import ImageSource, TrainingImages, training_images
from advcomp.training.loop import TrainingRun
from advcomp.training.ranks import Ranks

GOAL = 1.1
STEPS = 10_000
RECIPE = Path(__file__).parent.parent / "tournament" / "digits" / "attack_network.toml"
CLASSIFIERS = ("conv_net", "residual_net", "res_net")

Step = Callable[[], object]


@click.command(help=__doc__.splitlines()[0])
@click.option("--rounds", default=9, show_default=True)
@click.option("--steps", default=15, show_default=True, help="Of each in a round.")
def main(rounds: int, steps: int) -> None:
    torch.set_num_threads(1)
    met = True
    for name, by_hand, trainers in pairs():
        ratios = race(by_hand, trainers, rounds, steps)
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{name}: {median:.2f} of the hand-written step ({low:.2f} to {high:.2f})")
        met &= median <= GOAL
    sys.exit(not met)


def race(by_hand: Step, trainers: Step, rounds: int, steps: int) -> list[float]:
    """The trainer's quickest step over the other's, by round; they take steps in turn.

    The first round, which warms up, is left out. Who begins changes from round to round.
    """
    ratios = []
    for number in range(rounds + 1):
        took: dict[Step, list[float]] = {by_hand: [], trainers: []}
        for _ in range(steps):
            for step in (trainers, by_hand) if number % 2 else (by_hand, trainers):
                took[step].append(seconds(step))
        ratios.append(min(took[trainers]) / min(took[by_hand]))
    return ratios[1:]


def seconds(step: Step) -> float:
    begun = time.process_time()
    step()
    return time.process_time() - begun


def pairs() -> Iterator[tuple[str, Step, Step]]:
    """What is trained, a step by hand, and a step of the trainer."""
    digits = training_images(ImageSource.DIGITS)
    for architecture in CLASSIFIERS:
        recipe = FitRecipe(training_steps=STEPS)
        classifier = Classifier(architecture, len(digits.classes)).train()
        task = FitTask(
            module=copy.deepcopy(classifier),
            training_loss=clean_cross_entropy,
            images=digits,
            first_label=0,
            recipe=recipe,
            ranks=Ranks(),
        )
        run = TrainingRun(task, recipe.plan(len(digits)), Ranks())
        yield (
            f"{architecture}, batch {recipe.batch_size}",
            classifier_by_hand(classifier, digits, recipe),
            partial(taken, run),
        )
    yield attack_network()


def taken(run: TrainingRun[Any]) -> None:
    """A step, and what it gave, which the trainer shows after every step on a CPU."""
    run.step()
    run.read()


def classifier_by_hand(network: nn.Module, images: TrainingImages, recipe: FitRecipe) -> Step:
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )

    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

    def step() -> float:
        clean, labels = drawn(images, recipe.batch_size, recipe.shift)
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(clean), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        return loss.item()

    return step


def attack_network() -> tuple[str, Step, Step]:
    """That of the digits' recipe."""
    recipe = load_network_recipe(RECIPE)
    images, _ = load_images(recipe.data)
    run = TrainingRun(attack_network_task(recipe, Ranks(), images), recipe.plan, Ranks())
    name = f"attack network, batch {recipe.training.batch_size}"
    return name, network_by_hand(recipe, images), partial(taken, run)


def network_by_hand(recipe: AttackNetworkRecipe, images: TrainingImages) -> Step:
    training, levels = recipe.training, torch.tensor(recipe.threat.max_epsilons)
    targets = target_classifiers(recipe, images, range(len(recipe.targets)))
    generator = fresh_generator(recipe, images)
    for module in (generator, *(target.classifier for target in targets)):
        module.to(memory_format=recipe.plan.layout)
    trained, average = generator.network, copy.deepcopy(generator.network)
    optimizer = torch.optim.AdamW(
        trained.parameters(),
        training.learning_rate,
        weight_decay=recipe.plan.weight_decay,
        fused=True,
    )

    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)

    def step() -> float:
        clean, labels = drawn(images, training.batch_size, recipe.data.shift)
        clean = clean.contiguous(memory_format=recipe.plan.layout)
        eps = levels[torch.randint(len(levels), (len(clean),))] / 255
        adversarial = generator(clean, eps)
        keys = torch.randint(2**62, (len(clean),)).tolist()
        losses = [
            target.losses(
                adversarial,
                clean,
                labels,
                table=recipe.loss,
                targeted=False,
                transforms=recipe.transforms,
                keys=keys,
                round_to_levels=training.round_to_levels,
            ).mean()
            for target in targets
        ]
        optimizer.zero_grad()
        loss = torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained.parameters(), training.clip_norm)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), trained.parameters(), strict=True):
                kept.lerp_(new, 1 - training.average)
        return loss.item()

    return step


def drawn(images: TrainingImages, count: int, most: int) -> tuple[Tensor, Tensor]:
    """Images (count, 3, H, W), moved by up to `most` pixels, and their classes."""
    rows = torch.randint(len(images), (count,)).tolist()
    padded = functional.pad(to_float(images.levels[rows]), (most,) * 4, mode="replicate")
    height, width = images.size
    moves = torch.randint(2 * most + 1, (count, 2)).tolist()
    moved = [
        image[:, down : down + height, right : right + width]
        for image, (down, right) in zip(padded, moves, strict=True)
    ]
    return torch.stack(moved), torch.tensor(images.labels[rows])


if __name__ == "__main__":
    main()
