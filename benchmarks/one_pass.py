"""What an attack network saves at play, beside gradients on the classifiers it was trained on.

    python benchmarks/one_pass.py EXPORT --surrogates WEIGHTS [--surrogates WEIGHTS]...

Times an exported network beside FGSM and MI-FGSM-10 on the average of the surrogates' logits, on
the same random images, one thread, in turns within one process. Printed: milliseconds an image
(median over the rounds) and the median ratio to the network's time.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import click
import torch
from torch import Tensor

from advcomp.attacknet.player import load_attack
from advcomp.players.attacks import fgsm, momentum_iterative_fgsm
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import Attack
from advcomp.players.ensemble import Ensemble
from advcomp.rules.threat import eps_of

EPS = eps_of(8)


@click.command(help=f"{__doc__.splitlines()[0]}\n\nEXPORT is a folder of `advcomp export`.")
@click.argument("export", type=click.Path(path_type=Path))
@click.option(
    "--surrogates",
    "weights",
    multiple=True,
    required=True,
    metavar="WEIGHTS",
    type=click.Path(path_type=Path),
)
@click.option("--images", default=50, show_default=True)
@click.option("--side", default=32, show_default=True, help="Of the images, in pixels.")
@click.option("--rounds", default=9, show_default=True)
def main(export: Path, weights: Sequence[Path], images: int, side: int, rounds: int) -> None:
    torch.set_num_threads(1)
    x = torch.rand(images, 3, side, side)
    surrogates = Ensemble([load_classifier(path) for path in weights])
    attacks: dict[str, Attack] = {
        "attack network": load_attack(export),
        "FGSM": partial(answered, surrogates, fgsm),
        "MI-FGSM-10": partial(answered, surrogates, momentum_iterative_fgsm),
    }
    times: dict[str, list[float]] = {name: [] for name in attacks}
    for _ in range(rounds):
        for name, attack in attacks.items():
            start = time.perf_counter()
            attack(x, EPS)
            times[name].append(time.perf_counter() - start)
    base = times["attack network"]
    print("attack           ms an image  times the network")
    for name, own in times.items():
        ratio = median(a / b for a, b in zip(own, base, strict=True))
        print(f"{name:15}  {1000 * median(own) / images:11.2f}  {ratio:17.1f}")


def answered(
    surrogates: Ensemble, attack: Callable[..., Tensor], clean: Tensor, eps: float
) -> Tensor:
    """An attack on the surrogates' own answers, which it has to ask for first."""
    return attack(surrogates, clean, surrogates(clean).argmax(1), eps=eps)


if __name__ == "__main__":
    main()
