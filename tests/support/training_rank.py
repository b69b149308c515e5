"""One rank of a trial run, under any launcher: `training_rank.py RECIPE OUT MODEL_RANKS ...`.

For each number of MODEL_RANKS takes every step of the recipe anew; the first rank writes to
OUT-MODEL_RANKS.pt the losses, the gradients of the network after each step (the recipe's clip_norm
is too large to clip) and which target classifiers it held.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from advcomp.attacknet.data import AttackBatch, load_images
from advcomp.attacknet.recipe import load_network_recipe
from advcomp.attacknet.task import AttackNetworkTask, attack_network_task
from advcomp.training.launch import launched
from advcomp.training.loop import TrainingRun
from advcomp.training.ranks import abort_together, joined_ranks


def main(file: str, out: str, *model_ranks: str) -> None:
    recipe, launch = load_network_recipe(Path(file)), launched()
    training, _ = load_images(recipe.data)
    with abort_together(launch):
        for count in model_ranks:
            with joined_ranks(launch, model_ranks=int(count), timeout_s=60) as ranks:
                task = attack_network_task(recipe, ranks, training)
                run = TrainingRun(task, recipe.plan, ranks)
                found = [taken(run, task) for _ in range(recipe.training.steps)]
                if ranks.is_first:
                    torch.save(found, f"{out}-{count}.pt")


def taken(
    run: TrainingRun[AttackBatch], task: AttackNetworkTask
) -> tuple[float, list[Tensor], list[int]]:
    run.step()
    (report,) = run.read()
    gradients = [p.grad.clone() for p in task.module.parameters() if p.grad is not None]
    return report.loss, gradients, sorted(task.targets)


if __name__ == "__main__":
    main(*sys.argv[1:])
