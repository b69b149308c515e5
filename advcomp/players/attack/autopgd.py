"""AutoPGD: PGD without a step size to tune, for white-box checks.

Croce and Hein 2020, arXiv 2003.01690, algorithm 1. Each image halves its own step where the loss
stopped growing, and goes on from the best point it has seen. Of all points visited an image keeps
the one that the classifier gets most wrong, by its margin.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from advcomp.players.attack.attack_call import attack
from advcomp.players.attack.objectives import (
    Loss,
    cross_entropy,
    direction_of,
    leaf,
    likeliest,
    loss_and_logits,
    margin,
)
from advcomp.players.classifier.answers import Model
from advcomp.players.classifier.frozen import frozen
from advcomp.players.image.pixels import ball
from advcomp.players.image.randomness import image_generators, uniform_like

INERTIA = 0.75
"""Share of a step that is new; alpha in the paper."""

SUCCESSES = 0.75
"""Share of steps between checkpoints that must raise the loss to keep the step size; rho."""

_NEVER_ZERO = 1e-12


def checkpoints(steps: int) -> list[int]:
    """After which steps the step size is adapted (section 3, "Step size selection").

    In hundredths of `steps`: 0, 22, and then at distances that fall by 3 to no less than 6.
    """
    shares = [0, 22]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    return sorted({-(-share * steps // 100) for share in shares[1:] if share < 100})


def difference_of_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin over the gap between the first and the third logit (equation 6), (N,).

    Raises:
        ValueError: Fewer than three classes.
    """
    top = _largest(logits, 3)
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _NEVER_ZERO)


def targeted_difference_of_logits_ratio(targets: Tensor) -> Loss:
    """By how much a target beats the label, over a gap between logits (equation 7).

    Raises:
        ValueError: Fewer than four classes.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        top = _largest(logits, 4)
        gap = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
        aimed, own = (logits.gather(1, c.unsqueeze(1)).squeeze(1) for c in (targets, labels))
        return (aimed - own) / (gap + _NEVER_ZERO)

    return loss


def _largest(logits: Tensor, how_many: int) -> Tensor:
    if logits.shape[1] < how_many:
        raise ValueError(
            f"this loss compares the {how_many} largest logits; got {logits.shape[1]} classes; "
            f'use loss="ce"'
        )
    return logits.topk(how_many, dim=1).values


AUTOPGD_LOSSES: Mapping[str, Loss] = {"ce": cross_entropy, "dlr": difference_of_logits_ratio}


@attack
def autopgd(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
    targeted: bool = False,
    seed: int = 0,
) -> Tensor:
    """AutoPGD on cross-entropy ("ce") or the difference of logits ratio ("dlr").

    Targeted, minus the loss at the target class is maximised.

    Raises:
        ValueError: No such loss, too few classes for it, or no step or start.
    """
    if loss not in AUTOPGD_LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(AUTOPGD_LOSSES)}; got {loss}")
    search = _Search(classifier, clean, labels, eps=eps, seed=seed, targeted=targeted)
    for _ in range(_positive(restarts, "start")):
        search.go(AUTOPGD_LOSSES[loss], _positive(steps, "step"))
    return search.best


@attack
def autopgd_targets(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    seed: int = 0,
    targeted: bool = False,
) -> Tensor:
    """AutoPGD with the targeted DLR towards each of the likeliest other classes (APGD-T).

    Strongest of the white-box checks, and `targets` times as dear as one run. Of soft labels it
    takes the likeliest.

    Raises:
        ValueError: `targeted`, since it leads away from the labels by every way there is; or
            fewer than four classes.
    """
    if targeted:
        raise ValueError("autopgd_targets has no targeted form; use autopgd with targeted=True")
    labels = likeliest(labels)
    search = _Search(classifier, clean, labels, eps=eps, seed=seed, targeted=False)
    with torch.no_grad(), frozen(classifier):
        logits = classifier(clean)
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    nearest = others.argsort(1, descending=True)[:, : min(targets, logits.shape[1] - 1)]
    for target in nearest.unbind(1):
        search.go(targeted_difference_of_logits_ratio(target), _positive(steps, "step"))
    return search.best


def _positive(number: int, name: str) -> int:
    if number < 1:
        raise ValueError(f"expected at least one {name}; got {number}")
    return number


class _Search:
    """The best point that each image of a batch has seen, over several runs of the loop."""

    def __init__(
        self,
        classifier: Model,
        clean: Tensor,
        labels: Tensor,
        *,
        eps: float,
        seed: int,
        targeted: bool,
    ) -> None:
        self.classifier, self.clean, self.labels, self.eps = classifier, clean, labels, eps
        self.towards = direction_of(labels, targeted=targeted)
        self.low, self.high = ball(clean, eps)
        self.generators = image_generators(clean, f"autopgd {eps} {seed}", clean.device)
        self.best = clean.detach()
        self.best_margin = clean.new_full((len(clean),), -torch.inf)

    @torch.no_grad()
    def go(self, loss: Loss, steps: int) -> None:
        """One run from a random start."""
        with frozen(self.classifier):
            x = before = self._start()
            value, g = self._look(x, loss)
            memory = Memory(x, value, g, step_size=2 * self.eps)
            due = checkpoints(steps)
            for step in range(steps):
                inertia = INERTIA if step else 1.0
                forth = (x + memory.step_size * g.sign()).clamp_(self.low, self.high)
                x, before = x + inertia * (forth - x) + (1 - inertia) * (x - before), x
                x = x.clamp_(self.low, self.high)
                value, g = self._look(x, loss)
                memory.note(x, value, g)
                if step + 1 in due:
                    x, g = memory.adapt(step + 1, x, g)

    def _start(self) -> Tensor:
        """A uniform point of the ball, moved outwards to touch its side."""
        t = uniform_like(self.clean, -1, 1, self.generators)
        t = t / t.abs().amax((1, 2, 3), keepdim=True)
        return torch.clamp(self.clean + self.eps * t, self.low, self.high)

    def _look(self, x: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """What is maximised at x, (N,), and its gradient; keeps x where the margin is the best."""
        with torch.enable_grad():
            x = leaf(x)
            losses, logits = loss_and_logits(self.classifier, x, self.labels, loss)
            values = self.towards * losses
            (g,) = torch.autograd.grad(values.sum(), x)
        gain = self.towards * margin(logits.detach(), self.labels)
        self.best = _pick(gain > self.best_margin, x.detach(), self.best)
        self.best_margin = torch.maximum(gain, self.best_margin)
        return values.detach(), g


class Memory:
    """What each image of a run remembers: its step size, its peak, how often the loss rose."""

    def __init__(self, x: Tensor, value: Tensor, g: Tensor, *, step_size: float) -> None:
        self.step_size = x.new_full((len(x), 1, 1, 1), step_size)
        self.value = self.peak = self.peak_before = value
        self.top, self.gradient = x, g
        self.rises = torch.zeros_like(value)
        self.halved = torch.zeros_like(value, dtype=torch.bool)
        self.adapted_at = 0

    def note(self, x: Tensor, value: Tensor, g: Tensor) -> None:
        """Take in a step."""
        self.rises += value > self.value
        higher = value > self.peak
        self.top, self.gradient = _pick(higher, x, self.top), _pick(higher, g, self.gradient)
        self.value, self.peak = value, torch.maximum(value, self.peak)

    def adapt(self, step: int, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Where one of the paper's two conditions holds, halve the step and return to the peak."""
        stalls = self.rises < SUCCESSES * (step - self.adapted_at)
        stuck = ~self.halved & (self.peak == self.peak_before)
        self.halved, self.peak_before, self.adapted_at = stalls | stuck, self.peak, step
        self.rises = torch.zeros_like(self.rises)
        self.step_size = _pick(self.halved, self.step_size / 2, self.step_size)
        return _pick(self.halved, self.top, x), _pick(self.halved, self.gradient, g)


def _pick(where: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(where.view(-1, 1, 1, 1), yes, no)
