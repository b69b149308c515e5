"""Where an attack is called: what it is given is looked at once, and what the model answers.

Inside, everything may rely on it: images in [0, 1], labels that are classes of the model.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

from advcomp.players.attack.objectives import BringsLoss, Loss, is_soft
from advcomp.players.classifier.answers import CheckedModel, Model
from advcomp.players.classifier.frozen import frozen
from advcomp.players.image.pixels import require_eps, require_images

P = ParamSpec("P")
AttackOf = Callable[Concatenate[Model, Tensor, Tensor, P], Tensor]


def attack(function: AttackOf[P]) -> AttackOf[P]:
    """An attack `function(classifier, clean, labels, *, eps, ...)` that refuses what it must.

    Labels may be integers of any kind. Of no images there are none. An attack that calls another
    one hands on what was looked at already.

    Raises:
        ValueError: Images that are no floats in [0, 1], labels that are no classes of the model, a
            model that gives no logits or NaN.
    """

    @wraps(function)
    def checked(
        classifier: Model, clean: Tensor, labels: Tensor, *args: P.args, **more: P.kwargs
    ) -> Tensor:
        if isinstance(classifier, AttackedModel):
            return function(classifier, clean, labels, *args, **more)
        require_images(clean)
        labels = classes_of(labels, clean)
        if "eps" in more:
            require_eps(more["eps"])
        if not len(clean):
            return clean.detach().clone()
        attacked = AttackedModel(classifier, labels)
        with frozen(classifier):
            adversarial = function(attacked, clean, labels, *args, **more)
        attacked.report()
        return adversarial

    return checked  # type: ignore[return-value]  # it also takes them by name


class AttackedModel(CheckedModel):
    """A model under attack, which is held to have the classes that its labels name."""

    def __init__(self, model: Model, labels: Tensor) -> None:
        super().__init__(model)
        self._span = _span(labels)

    def seen(self, x: Tensor, logits: Tensor) -> Tensor:
        """See `CheckedModel`; the labels are looked at before they point into the logits."""
        logits = super().seen(x, logits)
        _require_classes(self._span, logits.shape[1])
        return logits

    def loss_and_logits(self, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """See `BringsLoss`."""
        if not isinstance(self.model, BringsLoss):
            logits = self(x)
            return loss(logits, labels), logits

        def fitting(logits: Tensor, labels: Tensor) -> Tensor:
            _require_classes(self._span, logits.shape[1])
            return loss(logits, labels)

        losses, logits = self.model.loss_and_logits(x, labels, fitting)
        return losses, self.seen(x, logits)


def classes_of(labels: object, clean: Tensor) -> Tensor:
    """Labels (N,), integers of any kind, as int64 beside the N images; soft ones (N, C) as floats.

    Raises:
        ValueError: They are something else.
    """
    if not isinstance(labels, Tensor):
        raise ValueError(
            f"labels: expected a tensor of {len(clean)} classes; got {type(labels).__name__}; "
            "torch.as_tensor makes one"
        )
    kind = labels.dtype
    if is_soft(labels) and labels.ndim == 2 and len(labels) == len(clean):
        sums = labels.double().sum(1)
        if not bool(
            (labels >= 0).all() & torch.isclose(sums, torch.ones_like(sums), atol=1e-3).all()
        ):
            raise ValueError(
                "labels: expected soft labels whose rows are at least 0 and sum to 1, such as "
                "soft_labels(classifier, clean); got other numbers"
            )
        return labels.to(clean.device, clean.dtype)
    if labels.shape != clean.shape[:1] or kind.is_floating_point or kind.is_complex:
        raise ValueError(
            f"labels: expected integers ({len(clean)},), a class for each image; got "
            f"{str(kind).removeprefix('torch.')} {tuple(labels.shape)}"
        )
    return labels.to(clean.device, torch.int64)


def require_classes(labels: Tensor, classes: int) -> None:
    """Accept labels (N,) that count the classes from 0.

    Raises:
        ValueError: Some are not below `classes`, or negative.
    """
    _require_classes(_span(labels), classes)


def _span(labels: Tensor) -> tuple[int, int]:
    if is_soft(labels):
        return 0, labels.shape[1] - 1
    low, high = torch.stack(labels.aminmax()).tolist()
    return low, high


def _require_classes(span: tuple[int, int], classes: int) -> None:
    low, high = span
    if low < 0 or high >= classes:
        from_1 = (
            "labels that count from 1, as 2017's datasets do, become classes by "
            "classifier.to_classes(labels) or labels - 1"
        )
        raise ValueError(
            f"labels: expected classes 0 to {classes - 1}; got {low} to {high}; "
            f"{from_1 if low >= 1 and high == classes else 'is it a model of these classes?'}"
        )
