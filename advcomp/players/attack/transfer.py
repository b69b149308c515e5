"""Attacks whose examples fool other classifiers too, by the names the field knows them by.

Each is MI-FGSM with the hooks of its paper and the paper's defaults; `decay=0` leaves the momentum
out. For other combinations hand the hooks to `momentum_iterative_fgsm`:
`transforms=stack(scaled_copies(), diverse_inputs(clean, eps=eps))`, `gradient=chain(...)`.

All take images (N, C, H, W) in [0, 1] and labels (N,), and where something is random a `seed`, on
which it depends besides the image's pixels.
"""

from typing import TypedDict, Unpack

from torch import Tensor

from advcomp.players.attack.attack_call import attack
from advcomp.players.attack.block_shuffle import shuffled_blocks
from advcomp.players.attack.gradients import flat_maximum, translation_invariant, variance_tuned
from advcomp.players.attack.hooks import stack
from advcomp.players.attack.input_transforms import (
    admixed,
    batch_as_pool,
    diverse_inputs,
    scaled_copies,
    spectrum_noise,
)
from advcomp.players.attack.patchwise import PatchWise
from advcomp.players.attacks import (
    STEPS,
    Momentum,
    iterative_fgsm,
    momentum_iterative_fgsm,
    step_of,
)
from advcomp.players.classifier.answers import Model


class Steps(TypedDict, total=False):
    """What every loop takes: see `iterative_fgsm`, which has the defaults."""

    steps: int
    step_size: float | None
    accumulate: bool
    targeted: bool


class Loop(Steps, total=False):
    """What every attack with momentum takes: see `momentum_iterative_fgsm`."""

    decay: float


@attack
def da_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 2,
    targeted: bool = False,
) -> Tensor:
    """Dual averaging: each step leads from the clean image along all gradients so far.

    Source: this project's measurements (docs/attack-network.md), where two steps beat MI-FGSM's
    ten; best with soft labels (`objectives.soft_labels`).

    Let g_0, ..., g_t be the gradients found, each over its mean absolute value. Within the ball,
    the linear model <g_0 + ... + g_t, x> is largest at

        x_{t+1} = clip(clean + eps sign(g_0 + ... + g_t)),

    so every gradient is taken at the best answer to all before it, and the last x answers all
    (follow the leader; Nesterov 2009, "Primal-dual subgradient methods for convex problems", whose
    regulariser is the ball here). FGSM is `steps=1`. The second gradient is already taken a whole
    budget away, where the attack will end; small steps take most of theirs near the clean image,
    and what one of them clips is lost to the next.
    """
    return iterative_fgsm(
        classifier, clean, labels, eps=eps, steps=steps, accumulate=True, targeted=targeted
    )


@attack
def ni_fgsm(
    classifier: Model, clean: Tensor, labels: Tensor, *, eps: float, **loop: Unpack[Loop]
) -> Tensor:
    """With Nesterov's gradient (Lin et al. 2020, arXiv 1908.06281, section 3.1)."""
    return momentum_iterative_fgsm(classifier, clean, labels, eps=eps, nesterov=True, **loop)


@attack
def di_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    probability: float = 0.5,
    seed: int = 0,
    **loop: Unpack[Loop],
) -> Tensor:
    """Diverse inputs (Xie et al. 2019, arXiv 1803.06978, section 3.4; M-DI2-FGSM)."""
    transforms = diverse_inputs(clean, eps=eps, probability=probability, seed=seed)
    return momentum_iterative_fgsm(
        classifier, clean, labels, eps=eps, transforms=transforms, **loop
    )


@attack
def ti_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    size: int | None = None,
    **loop: Unpack[Loop],
) -> Tensor:
    """Translation-invariant (Dong et al. 2019, arXiv 1904.02884, section 3.3; TI-MI-FGSM)."""
    blur = translation_invariant(clean, size=size)
    return momentum_iterative_fgsm(classifier, clean, labels, eps=eps, gradient=blur, **loop)


@attack
def si_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    copies: int = 5,
    **loop: Unpack[Loop],
) -> Tensor:
    """Scale-invariant (Lin et al. 2020, arXiv 1908.06281, section 3.2; SI-MI-FGSM)."""
    transforms = scaled_copies(copies)
    return momentum_iterative_fgsm(
        classifier, clean, labels, eps=eps, transforms=transforms, **loop
    )


@attack
def si_ni_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    copies: int = 5,
    **loop: Unpack[Loop],
) -> Tensor:
    """Scale-invariant, with Nesterov's gradient (arXiv 1908.06281, algorithm 1)."""
    transforms = scaled_copies(copies)
    return momentum_iterative_fgsm(
        classifier, clean, labels, eps=eps, transforms=transforms, nesterov=True, **loop
    )


@attack
def di_ti_si_mi_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    copies: int = 5,
    probability: float = 0.5,
    size: int | None = None,
    seed: int = 0,
    **loop: Unpack[Loop],
) -> Tensor:
    """DI, TI and SI together, the field's usual standard (arXiv 1908.06281, section 4.3).

    Each of the `copies` is resized and padded on its own, and their gradient is blurred.
    """
    diverse = diverse_inputs(clean, eps=eps, probability=probability, seed=seed)
    return momentum_iterative_fgsm(
        classifier,
        clean,
        labels,
        eps=eps,
        transforms=stack(scaled_copies(copies), diverse),
        gradient=translation_invariant(clean, size=size),
        **loop,
    )


@attack
def admix(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    pool: Tensor | None = None,
    pool_labels: Tensor | None = None,
    mixtures: int = 3,
    strength: float = 0.2,
    copies: int = 5,
    seed: int = 0,
    **loop: Unpack[Loop],
) -> Tensor:
    """Images of other classes mixed in, at five scales (Wang et al. 2021, arXiv 2102.00436, 3.2).

    Args:
        classifier, clean, labels, eps, loop: As above.
        pool, pool_labels: Images (M, C, H, W) to mix in, and their classes (M,). Where not given,
            the batch itself, as in the authors' code: an image then depends on its neighbours.
        mixtures, strength, copies, seed: As in `admixed` and `scaled_copies`.

    Raises:
        ValueError: One of the two without the other, or as in `admixed`.
    """
    if (pool is None) is not (pool_labels is None):
        raise ValueError("expected pool and pool_labels together; got one of them")
    if pool is None or pool_labels is None:
        pool, pool_labels = batch_as_pool(clean, labels)
    mixed = admixed(
        clean,
        labels,
        eps=eps,
        pool=pool,
        pool_labels=pool_labels,
        mixtures=mixtures,
        strength=strength,
        seed=seed,
    )
    transforms = stack(mixed, scaled_copies(copies))
    return momentum_iterative_fgsm(
        classifier, clean, labels, eps=eps, transforms=transforms, **loop
    )


@attack
def vmi_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    samples: int = 20,
    beta: float = 1.5,
    seed: int = 0,
    **loop: Unpack[Loop],
) -> Tensor:
    """Variance-tuned (Wang and He 2021, arXiv 2103.15571, algorithm 1)."""
    tuned = variance_tuned(clean, eps=eps, samples=samples, beta=beta, seed=seed)
    return momentum_iterative_fgsm(classifier, clean, labels, eps=eps, gradient=tuned, **loop)


@attack
def vni_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    decay: float = 1.0,
    samples: int = 20,
    beta: float = 1.5,
    seed: int = 0,
    **loop: Unpack[Steps],
) -> Tensor:
    """Variance-tuned, with Nesterov's gradient (arXiv 2103.15571, section 3.2)."""
    velocity = Momentum(decay)
    lookahead = velocity.lookahead(_step_size(eps, loop) * decay)
    tuned = variance_tuned(
        clean, eps=eps, samples=samples, beta=beta, seed=seed, lookahead=lookahead
    )
    return iterative_fgsm(
        classifier, clean, labels, eps=eps, gradient=tuned, direction=velocity, **loop
    )


def _step_size(eps: float, loop: Steps) -> float:
    """The step that a loop will take."""
    return step_of(
        eps,
        loop.get("steps", STEPS),
        loop.get("step_size"),
        accumulate=loop.get("accumulate", False),
    )


@attack
def pi_fgsm(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = STEPS,
    amplification: float = 10.0,
    targeted: bool = False,
) -> Tensor:
    """Patch-wise, without momentum (Gao et al. 2020, arXiv 2007.06765, algorithm 1).

    Args:
        classifier, clean, labels, eps, steps, targeted: As in `iterative_fgsm`.
        amplification: Of the step `eps / steps`; beta in the paper.
    """
    limit = max(steps, 1) / amplification
    return iterative_fgsm(
        classifier,
        clean,
        labels,
        eps=eps,
        steps=steps,
        step_size=eps / limit,
        targeted=targeted,
        direction=PatchWise(clean, limit=limit),
    )


@attack
def ssa(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    samples: int = 20,
    spread: float = 0.5,
    sigma: float | None = None,
    seed: int = 0,
    **loop: Unpack[Loop],
) -> Tensor:
    """Spectrum simulation (Long et al. 2022, arXiv 2207.05382, algorithm 1; S2I-MI-FGSM)."""
    transforms = spectrum_noise(
        clean, eps=eps, samples=samples, spread=spread, sigma=sigma, seed=seed
    )
    return momentum_iterative_fgsm(
        classifier, clean, labels, eps=eps, transforms=transforms, **loop
    )


@attack
def pgn(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    samples: int = 20,
    reach: float = 3.0,
    balance: float = 0.5,
    seed: int = 0,
    **loop: Unpack[Loop],
) -> Tensor:
    """Penalising the gradient's norm (Ge et al. 2023, arXiv 2306.05225, algorithm 1)."""
    flat = flat_maximum(
        clean,
        eps=eps,
        step_size=_step_size(eps, loop),
        samples=samples,
        reach=reach,
        balance=balance,
        seed=seed,
    )
    return momentum_iterative_fgsm(classifier, clean, labels, eps=eps, gradient=flat, **loop)


@attack
def bsr(
    classifier: Model,
    clean: Tensor,
    labels: Tensor,
    *,
    eps: float,
    samples: int = 20,
    blocks: int = 2,
    degrees: float = 24.0,
    seed: int = 0,
    **loop: Unpack[Loop],
) -> Tensor:
    """Block shuffle and rotation (Wang et al. 2024, arXiv 2308.10299, section 3.3)."""
    transforms = shuffled_blocks(
        clean, eps=eps, samples=samples, blocks=blocks, degrees=degrees, seed=seed
    )
    return momentum_iterative_fgsm(
        classifier, clean, labels, eps=eps, transforms=transforms, **loop
    )
