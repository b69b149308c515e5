"""One rank of a trial run, under any launcher: `training_rank.py RECIPE OUT MODEL_RANKS ...`.

For each number of MODEL_RANKS takes every step of the recipe anew; the first rank writes to
OUT-MODEL_RANKS.pt the losses, the gradients of the network after each step (the recipe's clip_norm
is too large to clip) and which target classifiers it held.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from advcomp.attacknet.data import load_images
from advcomp.attacknet.recipe import load_network_recipe
from advcomp.attacknet.step import TrainingRun, prepared, train_step
from advcomp.training.launch import launched
from advcomp.training.ranks import abort_together, joined_ranks


def main(file: str, out: str, *model_ranks: str) -> None:
    recipe, launch = load_network_recipe(Path(file)), launched()
    training, _ = load_images(recipe.data)
    with abort_together(launch):
        for count in model_ranks:
            with joined_ranks(launch, model_ranks=int(count), timeout_s=60) as ranks:
                run = prepared(recipe, ranks, training)
                found = [taken(run) for _ in range(recipe.training.steps)]
                if ranks.is_first:
                    torch.save(found, f"{out}-{count}.pt")


def taken(run: TrainingRun) -> tuple[float, list[Tensor], list[int]]:
    report = train_step(run)
    gradients = [p.grad.clone() for p in run.network.parameters() if p.grad is not None]
    return report.loss, gradients, sorted(run.targets)


if __name__ == "__main__":
    main(*sys.argv[1:])
