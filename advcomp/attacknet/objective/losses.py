"""What the network minimises, by the name that a recipe gives it; one number for each image.

z are the logits of the adversarial image and z0 those of the clean one, y its class and t its
target class; L is the cross-entropy.

| name                       | away from y                      | towards t                     |
|----------------------------|----------------------------------|-------------------------------|
| cross_entropy              | -L(z, y)                         | L(z, t)                       |
| relativistic_cross_entropy | -L(z - z0, y)                    | L(z - z0, t)                  |
| margin                     | max(z_y - max_{k != y} z_k, -c)  | max(max_{k != t} z_k - z_t, -c) |
| feature_distance           | -|f - f0|^2 / |f0|^2             | none                          |

Relativistic: Naseer et al. 2019, arXiv 1905.11736, equation 5. Margin: Carlini and Wagner 2017,
arXiv 1608.04644, f_6 with confidence c. Feature distance, in a layer f in the middle of the
classifier: Salzmann et al. 2021, arXiv 2107.12085, section 3; here divided by the clean features'
size, so that layers of different scales can be added up.

`imitation` asks no classifier: it is against what a teacher has found (`attacknet.teacher`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advcomp.attacknet.network.generator import rounded_to_levels
from advcomp.attacknet.network.hint import with_activations
from advcomp.attacknet.objective.transforms import transformed
from advcomp.attacknet.recipe import LossTable, TransformItem
from advcomp.players.attack.objectives import cross_entropy
from advcomp.players.classifiers import Classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one classifier says to a batch.

    Args:
        adversarial, clean: Logits (N, classes).
        features, clean_features: Outputs (N, ...) of a layer. What is about the clean image has
            no graph, and is None where no loss needs it.
        classes: The class (N,) to lead away from or, where `targeted`, to lead to.
        confidence: At which margin an image is fooled well enough.
    """

    adversarial: Tensor
    clean: Tensor | None
    features: Tensor | None
    clean_features: Tensor | None
    classes: Tensor
    targeted: bool
    confidence: float


def plain_cross_entropy(answers: Answers) -> Tensor:
    """-L(z, y), or L(z, t)."""
    return _signed(cross_entropy(answers.adversarial, answers.classes), answers)


def relativistic_cross_entropy(answers: Answers) -> Tensor:
    """-L(z - z0, y), or L(z - z0, t)."""
    assert answers.clean is not None
    change = answers.adversarial - answers.clean
    return _signed(cross_entropy(change, answers.classes), answers)


def margin_loss(answers: Answers) -> Tensor:
    """By how much the logit at the class leads, or trails; constant below -confidence."""
    index = answers.classes.unsqueeze(1)
    own = answers.adversarial.gather(1, index).squeeze(1)
    other = answers.adversarial.scatter(1, index, -torch.inf).amax(1)
    lead = other - own if answers.targeted else own - other
    return lead.clamp_min(-answers.confidence)


def feature_distance(answers: Answers) -> Tensor:
    """-|f - f0|^2 / |f0|^2."""
    assert answers.features is not None
    assert answers.clean_features is not None
    change = (answers.features - answers.clean_features).flatten(1).square().mean(1)
    size = answers.clean_features.flatten(1).square().mean(1)
    return -change / size.clamp_min(torch.finfo(size.dtype).tiny)


def imitation(adversarial: Tensor, clean: Tensor, eps: Tensor, taught: Tensor) -> Tensor:
    """-mean (p T) of every image, (N,), with p = (adversarial - clean) / eps; see `teacher`.

    Args:
        adversarial, clean: (N, 3, H, W).
        eps: (N,), on the [0, 1] scale.
        taught: T, (N, 1, 3, H, W).
    """
    p = (adversarial - clean) / eps.view(-1, 1, 1, 1)
    return -_exact(p * taught.squeeze(1)).mean((1, 2, 3))


NETWORK_LOSSES: dict[str, Callable[[Answers], Tensor]] = {
    "cross_entropy": plain_cross_entropy,
    "relativistic_cross_entropy": relativistic_cross_entropy,
    "margin": margin_loss,
    "feature_distance": feature_distance,
}
"""By the names of a recipe's [loss]."""

_COMPARING = {"relativistic_cross_entropy", "feature_distance"}
"""Those that ask what the classifier says to the clean image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetClassifier:
    """A classifier that the network is trained against.

    Args:
        weight: w_c in J = 1/B sum_i sum_c w_c l_c(x_i).
        feature_layer: Where feature_distance looks.
    """

    classifier: Classifier
    weight: float
    feature_layer: str | None = None

    def losses(
        self,
        adversarial: Tensor,
        clean: Tensor,
        labels: Tensor,
        *,
        table: LossTable,
        targeted: bool,
        transforms: Sequence[TransformItem] = (),
        keys: Sequence[int] = (),
        round_to_levels: bool = False,
    ) -> Tensor:
        """The weighted loss w_c l_c of every image, (N,).

        Args:
            labels: The label of each image, or its target label where `targeted`.
            keys: What each image's transforms draw from.
            round_to_levels: Round the adversarial image first, straight through.
        """
        layers = [] if self.feature_layer is None else [self.feature_layer]

        def answer(x: Tensor) -> tuple[Tensor, Tensor | None]:
            seen = transformed(x, transforms, keys)
            logits, features = with_activations(self.classifier, layers, seen)
            return _exact(logits), _exact(features[0]) if features else None

        logits, features = answer(
            rounded_to_levels(adversarial) if round_to_levels else adversarial
        )
        clean_logits, clean_features = None, None
        if table.weights.keys() & _COMPARING:
            with torch.no_grad():
                clean_logits, clean_features = answer(clean)
        answers = Answers(
            adversarial=logits,
            clean=clean_logits,
            features=features,
            clean_features=clean_features,
            classes=self.classifier.to_classes(labels),
            targeted=targeted,
            confidence=table.confidence,
        )
        terms = [weight * NETWORK_LOSSES[name](answers) for name, weight in table.weights.items()]
        return self.weight * torch.stack(terms).sum(0)


def _signed(loss: Tensor, answers: Answers) -> Tensor:
    return loss if answers.targeted else -loss


def _exact(values: Tensor) -> Tensor:
    """At least float32: sums of 16-bit numbers overflow."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
