"""The winner of 2017: MI-FGSM in ten steps against eight networks, fused in logits.

Team TsAIL, arXiv 1804.00097, section 5, and arXiv 1710.06081: seven networks of weight 1, and
the adversarially trained Inception v3 of weight 1/4; all eight vote for the label to leave.
Theirs also had auxiliary heads, which count by 0.4 and which other networks do not have.
"""

from pathlib import Path

from torch import Tensor

from advcomp.players.attacks import momentum_iterative_fgsm
from advcomp.players.contract import attack_main
from advcomp.players.ensemble import Ensemble, Fusion, load_ensemble

WEIGHTS = {"surrogate_adversarial*": 0.25, "surrogate*": 1.0}

surrogates = load_ensemble(Path(__file__).parent, WEIGHTS)
voters = Ensemble([*surrogates.members], fusion=Fusion.PROBABILITIES)


def attack(clean: Tensor, eps: float) -> Tensor:
    """Adversarial images for clean ones."""
    labels = voters(clean).argmax(1)
    return momentum_iterative_fgsm(surrogates, clean, labels, eps=eps, steps=10, decay=1.0)


attack_main(attack)
