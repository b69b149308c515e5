"""What an attack network saves at play, beside gradients on the classifiers it was trained on.

    python benchmarks/one_pass.py EXPORT --surrogates WEIGHTS [WEIGHTS ...]

Times an exported network beside FGSM and MI-FGSM-10 on the average of the surrogates' logits, on
the same random images, one thread, in turns within one process. Printed: milliseconds an image
(median over the rounds) and the median ratio to the network's time.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from advcomp.attacknet.player import load_attack
from advcomp.players.attacks import fgsm, momentum_iterative_fgsm
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import Attack
from advcomp.players.ensemble import Ensemble
from advcomp.rules.threat import eps_of

EPS = eps_of(8)


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path, help="a folder of `advcomp export`")
    parser.add_argument("--surrogates", type=Path, nargs="+", required=True, metavar="WEIGHTS")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.rand(options.images, 3, options.side, options.side)
    surrogates = Ensemble([load_classifier(path) for path in options.surrogates])
    attacks: dict[str, Attack] = {
        "attack network": load_attack(options.export),
        "FGSM": partial(answered, surrogates, fgsm),
        "MI-FGSM-10": partial(answered, surrogates, momentum_iterative_fgsm),
    }
    times: dict[str, list[float]] = {name: [] for name in attacks}
    for _ in range(options.rounds):
        for name, attack in attacks.items():
            start = time.perf_counter()
            attack(x, EPS)
            times[name].append(time.perf_counter() - start)
    base = times["attack network"]
    print("attack           ms an image  times the network")
    for name, own in times.items():
        ratio = median(a / b for a, b in zip(own, base, strict=True))
        print(f"{name:15}  {1000 * median(own) / options.images:11.2f}  {ratio:17.1f}")


def answered(
    surrogates: Ensemble, attack: Callable[..., Tensor], clean: Tensor, eps: float
) -> Tensor:
    """An attack on the surrogates' own answers, which it has to ask for first."""
    return attack(surrogates, clean, surrogates(clean).argmax(1), eps=eps)


if __name__ == "__main__":
    main()
