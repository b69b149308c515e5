"""What a network is measured beside: what anybody has from the same classifiers without learning.

* `hint alone`: the sign of the gradients that it is told, or FGSM on its hint's surrogate.
* `fgsm`: one gradient, away from the surrogates' own answer.
* `da_fgsm`: two accumulated gradients with soft labels.
* `da_fgsm, fused in gradients`: the same where there are several surrogates, each of which counts
  alike: of plain and robust ones the best of the cheap attacks.

The last three ask the surrogates that a network is told gradients of or, where it is told of none,
all its target classifiers; fused in logits where nothing else is said. A network that is not ahead
of its hint alone adds nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advcomp.attacknet.assembly import fitting_classifiers, fused
from advcomp.attacknet.data import AttackBatch
from advcomp.attacknet.network.generator import AdversarialGenerator, rounded_to_levels
from advcomp.attacknet.network.pixel_gradients import PixelGradients
from advcomp.attacknet.recipe import AttackNetworkRecipe
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.ensemble import Ensemble
from advcomp.players.training_images import TrainingImages
from advcomp.training.progress import HINT_ALONE

FUSED_IN_GRADIENTS = "da_fgsm, fused in gradients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """Attacks by name, and what is known of them: that does not change between evaluations.

    Args:
        attacks: Gradients whose summed sign is the attack.
        hits: (name, max_epsilon) to this rank's images that it led astray, by classifier.
    """

    attacks: Mapping[str, PixelGradients]
    hits: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def adversarial(self, name: str, batch: AttackBatch, device: torch.device) -> Tensor:
        """What a rival makes of a batch, rounded to levels."""
        clean, eps = batch.clean.to(device), batch.eps.to(device)
        targets = None if batch.targets is None else batch.targets.to(device)
        gradients = self.attacks[name](clean, eps, targets)
        x = clean + eps.view(-1, 1, 1, 1) * gradients.sum(1).sign()
        return rounded_to_levels(x.clamp(0, 1))


def rivals_of(
    recipe: AttackNetworkRecipe,
    generator: AdversarialGenerator,
    images: TrainingImages,
    device: torch.device,
) -> Rivals:
    """A recipe's.

    Args:
        generator: Whose hint it is.

    Raises:
        InvalidConfig: A target classifier does not fit, or they are no ensemble.
    """
    told, hint = generator.gradients, generator.hint
    attacks: dict[str, PixelGradients] = {}
    if told is not None:
        surrogates, attacks[HINT_ALONE] = told.surrogates, told
    else:
        targets = fitting_classifiers([item.weights for item in recipe.targets], images)
        surrogates = fused(targets).to(device, recipe.device.precision.kept)
        if hint is not None:
            one = Ensemble([hint.surrogate]).to(device, recipe.device.precision.kept)
            attacks[HINT_ALONE] = PixelGradients(one, count=1, labels=LabelKind.HARD)
    attacks["fgsm"] = PixelGradients(surrogates, count=1, labels=LabelKind.HARD)
    attacks["da_fgsm"] = PixelGradients(surrogates, count=2, labels=LabelKind.SOFT)
    if len(surrogates.members) > 1:
        attacks[FUSED_IN_GRADIENTS] = PixelGradients(
            surrogates, count=2, labels=LabelKind.SOFT, apart=True
        )
    return Rivals(attacks=attacks)
