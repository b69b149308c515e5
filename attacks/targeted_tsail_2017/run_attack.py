"""The targeted winner of 2017: rounded steps of momentum against five networks, or two.

Team TsAIL, arXiv 1804.00097, section 5. From budgets of 8 levels on: Inception v3 (`plain`) and
the ensemble-adversarially trained Inception-ResNet v2 (`robust`) of weight 4, three more
adversarially trained ones of weight 1. Below, only these two, of weights 1 and 2.
"""

from functools import cache
from pathlib import Path

from torch import Tensor

from advcomp.players.contract import targeted_attack_main
from advcomp.players.ensemble import Ensemble, load_ensemble
from advcomp.players.tsail import LARGE, tsail

AT_LARGE = {"surrogate_plain": 4.0, "surrogate_robust": 4.0, "surrogate*": 1.0}
BELOW = {"surrogate_plain": 1.0, "surrogate_robust": 2.0}


@cache
def surrogates(*, large: bool) -> Ensemble:
    """The networks for a budget."""
    return load_ensemble(Path(__file__).parent, AT_LARGE if large else BELOW)


def attack(clean: Tensor, targets: Tensor, eps: float) -> Tensor:
    """Adversarial images for clean ones and the labels to lead them to."""
    ensemble = surrogates(large=eps >= LARGE)
    return tsail(ensemble, clean, ensemble.to_classes(targets), eps=eps, targeted=True)


targeted_attack_main(attack)
