"""What the network gains by its hint, and by how it is told epsilon: trains one of each kind.

    python benchmarks/attack_network.py RECIPE [--seeds N]... [--steps N] [--judge WEIGHTS]...

A recipe is trained as it is and with one of [network] epsilon and [hint] mode changed at a time,
from the same seeds, on the same images. Printed for each: its cost in forward passes of the
dearest target classifier, without and with the hint, and the share of validation images that are
misclassified (mean over seeds and epsilons) by the target classifiers and by the judges.
Nothing is chosen by the judges: name classifiers that nothing was trained against.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

import click

from advcomp.attacknet.assembly import names_of
from advcomp.attacknet.data import load_images
from advcomp.attacknet.evaluation import evaluate
from advcomp.attacknet.recipe import (
    AttackNetworkRecipe,
    EpsilonInput,
    HintMode,
    HintTable,
    load_network_recipe,
)
from advcomp.attacknet.task import attack_network_task, named_classifiers
from advcomp.training.launch import launched
from advcomp.training.loop import TrainingRun
from advcomp.training.progress import EvaluationReport
from advcomp.training.ranks import joined_ranks


@click.command(help=__doc__.splitlines()[0])
@click.argument("file", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option("--seeds", type=int, multiple=True, default=[1], show_default=True)
@click.option("--steps", type=int, help="Instead of the recipe's.")
@click.option(
    "--judge", "judges", multiple=True, metavar="WEIGHTS", type=click.Path(path_type=Path)
)
def main(file: Path, seeds: Sequence[int], steps: int | None, judges: Sequence[Path]) -> None:
    recipe = load_network_recipe(file)
    if steps:
        shorter = recipe.training.model_copy(update={"steps": steps})
        recipe = recipe.model_copy(update={"training": shorter})
    print("epsilon    hint       network  with hint  misclassified by targets  by judges")
    for variant in variants(recipe):
        report(variant, seeds, judges)


def variants(recipe: AttackNetworkRecipe) -> Iterator[AttackNetworkRecipe]:
    """The recipe first, then each with one thing changed."""
    yield recipe
    for epsilon in EpsilonInput:
        if epsilon is not recipe.network.epsilon:
            table = recipe.network.model_copy(update={"epsilon": epsilon})
            yield recipe.model_copy(update={"network": table})
    for mode in HintMode:
        if mode is not recipe.hint.mode:
            none = mode is HintMode.NONE
            hint = HintTable() if none else recipe.hint.model_copy(update={"mode": mode})
            yield recipe.model_copy(update={"hint": hint})


def report(recipe: AttackNetworkRecipe, seeds: Sequence[int], judges: Sequence[Path]) -> None:
    targets = [item.weights for item in recipe.targets]
    asked = [*targets, *judges]
    found = [trained(recipe.model_copy(update={"seed": seed}), asked) for seed in seeds]
    network, told = found[0][1]
    names = names_of(asked)
    rates = "".join(
        f"{mean(rate(evaluation, some) for evaluation, _ in found):18.1%}" if some else ""
        for some in (names[: len(targets)], names[len(targets) :])
    )
    print(
        f"{recipe.network.epsilon:9}  {recipe.hint.mode:9}  {network:7.2f}  {told:9.2f}{rates}",
        flush=True,
    )


def trained(
    recipe: AttackNetworkRecipe, judges: list[Path]
) -> tuple[EvaluationReport, tuple[float, float]]:
    """What a network does in the end, and what it costs, without and with its hint."""
    training, held_out = load_images(recipe.data)
    with (
        joined_ranks(launched(), model_ranks=1, device=recipe.device.name) as ranks,
        tempfile.TemporaryDirectory() as folder,
    ):
        task = attack_network_task(recipe, ranks, training)
        run = TrainingRun(task, recipe.plan, ranks)
        for _ in range(recipe.training.steps):
            run.step()
            run.read()
        evaluation = evaluate(
            recipe,
            task.averaged(run.average),
            named_classifiers(judges, recipe, ranks, training),
            held_out,
            ranks,
            step=run.done,
            picture=Path(folder, "examples.png"),
        )
        return evaluation, task.costs().in_passes


def rate(evaluation: EvaluationReport, names: list[str]) -> float:
    return mean(share for (name, _), share in evaluation.rates.items() if name in names)


if __name__ == "__main__":
    main()
