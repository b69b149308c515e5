"""How team TsAIL's targeted entry of 2017 stepped; its non-targeted one is MI-FGSM as it stands.

Kurakin et al. 2018, arXiv 1804.00097, section 5, and the published entry (dongyp13/
Targeted-Adversarial-Attack): it fits the step to the budget, and rounds the velocity to whole
steps of at most two instead of taking its sign.
"""

import torch
from torch import Tensor

from advcomp.players.attack.attack_call import attack
from advcomp.players.attacks import iterative_fgsm
from advcomp.players.classifier.answers import Model

LARGE = 8 / 255
"""From this budget on, few and large steps."""


@attack
def tsail(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    decay: float = 1.0,
    targeted: bool = False,
) -> Tensor:
    """20 steps of eps / 12 from budgets of 8 levels on, 40 of eps / 28 below."""
    steps, parts = (20, 12) if eps >= LARGE else (40, 28)
    return iterative_fgsm(
        classifier,
        clean,
        labels,
        eps=eps,
        steps=steps,
        step_size=eps / parts,
        targeted=targeted,
        direction=RoundedMomentum(decay),
    )


class RoundedMomentum:
    """A velocity in standard deviations of each image, rounded, within -2..2."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.velocity: Tensor | None = None

    def __call__(self, g: Tensor) -> Tensor:
        """The direction of a step, for the gradient found there."""
        g = _per_deviation(g)
        if self.velocity is not None:
            g = _per_deviation(self.decay * self.velocity + g)
        self.velocity = g
        return g.round().clamp(-2, 2)


def _per_deviation(g: Tensor) -> Tensor:
    deviation = g.std((1, 2, 3), correction=0, keepdim=True)
    return g / deviation.clamp_min(torch.finfo(g.dtype).tiny)
