"""What an attack network saves at play, beside gradients on the classifiers it was trained on.

    python benchmarks/one_pass.py EXPORT --surrogates WEIGHTS [--surrogates WEIGHTS]...

Times an exported network beside FGSM, da_fgsm and MI-FGSM-10 on the average of the surrogates'
logits, loaded as an entry of the library loads them, on the same random images, one thread, in
turns within one process. Printed: milliseconds an image (median over the rounds), the median ratio
to the network's time, and the network's share of the attack's.
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
from advcomp.players.attack.transfer import da_fgsm
from advcomp.players.attacks import fgsm, momentum_iterative_fgsm
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import Attack
from advcomp.players.ensemble import Ensemble
from advcomp.rules.threat import eps_of
from advcomp.training.heap import keep_freed_memory

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
    keep_freed_memory()  # as every program of the library does
    x = torch.rand(images, 3, side, side)
    surrogates = Ensemble(
        [load_classifier(path, fold=True, channels_last=True) for path in weights]
    )
    attacks: dict[str, Attack] = {
        "attack network": load_attack(export),
        "FGSM": partial(answered, surrogates, fgsm),
        "da_fgsm": partial(answered, surrogates, da_fgsm),
        "MI-FGSM-10": partial(answered, surrogates, momentum_iterative_fgsm),
    }
    times: dict[str, list[float]] = {name: [] for name in attacks}
    for _ in range(rounds):
        for name, attack in attacks.items():
            start = time.perf_counter()
            attack(x, EPS)
            times[name].append(time.perf_counter() - start)
    base = times["attack network"]
    print("attack           ms an image  times the network  the network's share")
    for name, own in times.items():
        ratio = median(a / b for a, b in zip(own, base, strict=True))
        print(f"{name:15}  {1000 * median(own) / images:11.2f}  {ratio:17.1f}  {1 / ratio:19.3f}")


def answered(
    surrogates: Ensemble, attack: Callable[..., Tensor], clean: Tensor, eps: float
) -> Tensor:
    """An attack on the surrogates' own answers, which it has to ask for first."""
    return attack(surrogates, clean, surrogates(clean).argmax(1), eps=eps)


if __name__ == "__main__":
    main()
