"""One perturbation for every image: fitted once on a training set, then only added.

Moosavi-Dezfooli et al. 2017, arXiv 1610.08401, found that such perturbations exist; they are
fitted here as by Shafahi et al. 2020, arXiv 1811.11304, section 3: stochastic steps up the
cross-entropy, clipped so that no image dominates (equation 4). A perturbation is stored in
budgets, within [-1, 1], and so fits every epsilon.
"""

from functools import partial

import torch
from torch import Tensor

from advcomp.players.attack.attack_call import attack, require_classes
from advcomp.players.attack.hooks import compose
from advcomp.players.attack.objectives import cross_entropy, input_gradient, objective
from advcomp.players.attacks import Momentum
from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.frozen import frozen
from advcomp.players.image.pixels import project_to_ball

CLIP = 9.0
"""Where the loss of an image stops to count; beta in the paper."""

RATE, DECAY = 0.1, 0.9
"""Step size in budgets, and how much of its velocity a step keeps."""


@attack
def universal(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    perturbations: Tensor | None = None,
    targeted: bool = False,
) -> Tensor:
    """Add the perturbation that was fitted; targeted, the target class's own.

    Args:
        classifier: Asked only where nothing was fitted before.
        clean: Images (N, C, H, W) in [0, 1].
        labels: Target classes (N,) where targeted; with perturbations, not looked at otherwise.
        eps: Radius of the ball.
        perturbations: From `fit_universal`: (1, C, H, W), or (classes, C, H, W) where targeted.
            Where not given, fitted to these very images: an image then depends on its neighbours.
        targeted: Whether to lead to the labels.

    Raises:
        ValueError: Perturbations for another size or another use, or that are not finite.
    """
    if perturbations is None:
        return _fitted_here(classifier, clean, labels, eps=eps, targeted=targeted)
    _refuse_misfit(perturbations, clean, labels, targeted=targeted)
    clean, fitted = clean.detach(), perturbations.to(clean)
    return project_to_ball(clean + eps * (fitted[labels] if targeted else fitted), clean, eps)


def _fitted_here(
    classifier: Model, clean: Tensor, labels: Tensor, *, eps: float, targeted: bool
) -> Tensor:
    """With what is fitted to the images themselves; targeted, for each class that is aimed at."""
    classes, which = torch.unique(labels, return_inverse=True)
    fitted = fit_universal(
        classifier, clean, labels, eps=eps, classes=classes if targeted else None
    )
    added = fitted[which] if targeted else fitted
    return project_to_ball(clean.detach() + eps * added, clean, eps)


def _refuse_misfit(
    perturbations: Tensor, clean: Tensor, labels: Tensor, *, targeted: bool
) -> None:
    if perturbations.shape[1:] != clean.shape[1:] or (len(perturbations) > 1) is not targeted:
        expected = ("classes" if targeted else 1, *clean.shape[1:])
        raise ValueError(
            f"perturbations: expected {expected}; got {tuple(perturbations.shape)}; "
            f"make them with fit_universal"
        )
    if not bool(perturbations.isfinite().all()):
        raise ValueError("perturbations: expected finite numbers; got NaN or infinity")
    if targeted:
        require_classes(labels, len(perturbations))


@attack
def fit_universal(
    classifier: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    classes: int | Tensor | None = None,
    epochs: int = 10,
    batch_size: int = 100,
    seed: int = 0,
) -> Tensor:
    """The perturbation (1, C, H, W) that raises the loss of as many images as it can.

    Args:
        classifier: The surrogate, or an ensemble.
        images: Training images (N, C, H, W) in [0, 1].
        labels: Their classes (N,).
        eps: The budget it is fitted for.
        classes: Given, one perturbation leads to each class instead: (classes, C, H, W). A number
            of classes, or which ones, (classes,).
        epochs: Passes over the images, per perturbation.
        batch_size: Images of a step.
        seed: Of the order of the images.
    """
    order = torch.Generator().manual_seed(seed)
    passes = [torch.randperm(len(images), generator=order) for _ in range(epochs)]
    indices = [i for whole in passes for i in torch.split(whole.to(images.device), batch_size)]

    def fit(aims: Tensor, *, targeted: bool) -> Tensor:
        perturbation, direction = torch.zeros_like(images[:1]), Momentum(DECAY)
        loss = cross_entropy if targeted else _clipped
        for i in indices:
            maximised = objective(classifier, aims[i], targeted=targeted, loss=loss)
            added = partial(_added, images[i], eps)
            perturbation = perturbation + RATE * direction(
                input_gradient(compose(added, maximised), perturbation)
            )
            perturbation.clamp_(-1, 1)
        return perturbation

    with frozen(classifier), torch.no_grad():
        if classes is None:
            return fit(labels, targeted=False)
        aims = range(classes) if isinstance(classes, int) else classes.tolist()
        return torch.cat([fit(torch.full_like(labels, c), targeted=True) for c in aims])


def _added(clean: Tensor, eps: float, perturbation: Tensor) -> Tensor:
    return (clean + eps * perturbation).clamp(0, 1)


def _clipped(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels).clamp_max(CLIP)
