"""Every attack a second time, written out by hand as its paper puts it.

For one image, in float64 and plain loops, with the papers' settings as defaults. Random numbers
are taken from generators seeded as the hook's are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional

from advcomp.players.attack.block_shuffle import shuffle_blocks
from advcomp.players.classifiers import Classifier
from advcomp.players.image.pixels import project_to_ball
from advcomp.players.image.randomness import image_generators
from advcomp.players.image.resizing import resize_pad_and_restore

View = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is attacked: one image (1, C, H, W), its label or target class (1,), and the budget.

    Labels (1, classes) are soft: -log p(label) is -log sum_c q_c p_c.
    """

    classifier: Classifier
    clean: Tensor
    labels: Tensor
    eps: float
    targeted: bool = False

    def grad(self, x: Tensor, view: View = lambda x: x) -> Tensor:
        """Up the cross-entropy at the label, down where that is the target."""
        x = x.detach().requires_grad_()
        logits = self.classifier(view(x))
        if self.labels.dim() == 2:
            loss = -(self.labels * logits.softmax(1)).sum(1).log()[0]
        else:
            loss = functional.cross_entropy(logits, self.labels)
        (g,) = torch.autograd.grad(loss, x)
        return -g if self.targeted else g

    @property
    def label(self) -> int:
        """The label, or the likeliest."""
        return int(self.labels.argmax(1) if self.labels.dim() == 2 else self.labels)

    def generator(self, purpose: str, seed: int) -> torch.Generator:
        """The image's own, for a purpose."""
        (own,) = image_generators(self.clean, f"{purpose} {self.eps} {seed}")
        return own

    def within(self, x: Tensor) -> Tensor:
        """Projected to the ball."""
        return project_to_ball(x, self.clean, self.eps)

    def gain(self, x: Tensor) -> float:
        """By how much the best other class beats the label, or the target all others."""
        logits: list[float] = self.classifier(x)[0].detach().tolist()
        if self.labels.dim() == 2:
            q: list[float] = self.labels[0].tolist()
            return max(z + log(1 - p) for z, p in zip(logits, q, strict=True)) - max(
                z + log(p) for z, p in zip(logits, q, strict=True)
            )
        label = int(self.labels)
        others = max(z for c, z in enumerate(logits) if c != label)
        return logits[label] - others if self.targeted else others - logits[label]


def uniform(like: Tensor, own: torch.Generator, reach: float) -> Tensor:
    """Uniform in -reach..reach."""
    return torch.empty(like.shape[1:]).to(like).uniform_(-reach, reach, generator=own).unsqueeze(0)


def mean(gradients: Iterator[Tensor]) -> Tensor:
    return torch.stack([*gradients]).mean(0)


def fgsm(p: Problem) -> Tensor:
    return p.within(p.clean + p.eps * p.grad(p.clean).sign())


def i_fgsm(
    p: Problem,
    *,
    steps: int = 10,
    step_size: float | None = None,
    accumulate: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    if accumulate:
        return da_fgsm(p, steps=steps, step_size=step_size, start=start)
    alpha = p.eps / steps if step_size is None else step_size
    x = p.clean if start is None else p.within(start)
    for _ in range(steps):
        x = p.within(x + alpha * p.grad(x).sign())
    return x


def da_fgsm(
    p: Problem,
    *,
    steps: int = 2,
    step_size: float | None = None,
    start: Tensor | None = None,
    decay: float = 1.0,
    gradient: Callable[[Tensor, Tensor], Tensor] | None = None,
    nesterov: bool = False,
) -> Tensor:
    """All gradients so far from a list, summed anew for every step, each as often as is left."""
    alpha = p.eps if step_size is None else step_size
    x = p.clean if start is None else p.within(start)
    found: list[Tensor] = []

    def velocity() -> Tensor:
        return sum(
            (decay**age * g for age, g in enumerate(reversed(found))), torch.zeros_like(p.clean)
        )

    for _ in range(steps):
        ahead = x + alpha * decay * velocity() if nesterov else x
        g = p.grad(ahead) if gradient is None else gradient(x, ahead)
        found.append(g / g.abs().mean())
        x = p.within(p.clean + alpha * velocity().sign())
    return x


def pgd(
    p: Problem,
    *,
    steps: int = 10,
    step_size: float | None = None,
    accumulate: bool = False,
    restarts: int = 1,
    seed: int = 0,
) -> Tensor:
    alpha = 2.5 * p.eps / steps if step_size is None and not accumulate else step_size
    own = p.generator("pgd", seed)
    starts = [p.clean + uniform(p.clean, own, p.eps) for _ in range(restarts)]
    found = [
        i_fgsm(p, steps=steps, step_size=alpha, accumulate=accumulate, start=start)
        for start in starts
    ]
    return max(found, key=p.gain)


def with_momentum(
    p: Problem,
    gradient: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    nesterov: bool = False,
    accumulate: bool = False,
) -> Tensor:
    """MI-FGSM, given the gradient from the point of a step and from where it looks ahead to."""
    if accumulate:
        return da_fgsm(
            p, steps=steps, step_size=step_size, decay=decay, gradient=gradient, nesterov=nesterov
        )
    alpha = p.eps / steps if step_size is None else step_size
    x, velocity = p.clean, torch.zeros_like(p.clean)
    for _ in range(steps):
        g = gradient(x, x + alpha * decay * velocity if nesterov else x)
        velocity = decay * velocity + g / g.abs().mean()
        x = p.within(x + alpha * velocity.sign())
    return x


def mi_fgsm(p: Problem, **loop: Any) -> Tensor:
    return with_momentum(p, lambda _, ahead: p.grad(ahead), **loop)


def ni_fgsm(p: Problem, **loop: Any) -> Tensor:
    return mi_fgsm(p, nesterov=True, **loop)


def diverse(p: Problem, probability: float, seed: int) -> View:
    own = p.generator("diverse_inputs", seed)

    def view(x: Tensor) -> Tensor:
        moved = float(torch.rand((), generator=own)) < probability
        return resize_pad_and_restore(x, [own]) if moved else x

    return view


def di_fgsm(p: Problem, *, probability: float = 0.5, seed: int = 0, **loop: Any) -> Tensor:
    view = diverse(p, probability, seed)
    return with_momentum(p, lambda x, _: p.grad(x, view), **loop)


def blurred(g: Tensor, size: int | None) -> Tensor:
    """A double loop over the shifts of a Gaussian kernel whose radius is three sigma."""
    radius = 2 if size is None else size // 2
    padded = functional.pad(g, (radius,) * 4)
    side, sigma = g.shape[-1], radius / 3
    total, weights = torch.zeros_like(g), 0.0
    for i in range(-radius, radius + 1):
        for j in range(-radius, radius + 1):
            weight = float(np.exp(-(i**2 + j**2) / (2 * sigma**2)))
            rows, columns = (
                slice(radius + i, radius + i + side),
                slice(radius + j, radius + j + side),
            )
            total, weights = total + weight * padded[..., rows, columns], weights + weight
    return total / weights


def ti_fgsm(p: Problem, *, size: int | None = None, **loop: Any) -> Tensor:
    return with_momentum(p, lambda x, _: blurred(p.grad(x), size), **loop)


def scaled(p: Problem, x: Tensor, copies: int, view: View = lambda x: x) -> Tensor:
    """The chain rule puts the factor of a copy before its gradient."""
    return mean(p.grad(x / 2**i, view) / 2**i for i in range(copies))


def si_fgsm(p: Problem, *, copies: int = 5, **loop: Any) -> Tensor:
    return with_momentum(p, lambda _, ahead: scaled(p, ahead, copies), **loop)


def si_ni_fgsm(p: Problem, **settings: Any) -> Tensor:
    return si_fgsm(p, nesterov=True, **settings)


def di_ti_si_mi_fgsm(
    p: Problem,
    *,
    copies: int = 5,
    probability: float = 0.5,
    size: int | None = None,
    seed: int = 0,
    **loop: Any,
) -> Tensor:
    view = diverse(p, probability, seed)
    return with_momentum(p, lambda x, _: blurred(scaled(p, x, copies, view), size), **loop)


def admix(
    p: Problem,
    *,
    pool: Tensor,
    pool_labels: Tensor,
    mixtures: int = 3,
    strength: float = 0.2,
    copies: int = 5,
    seed: int = 0,
    **loop: Any,
) -> Tensor:
    own = p.generator("admixed", seed)
    others = [i for i, label in enumerate(pool_labels.tolist()) if label != p.label]

    def mixed(x: Tensor) -> Tensor:
        scores = torch.empty(len(pool)).to(x).uniform_(0, 1, generator=own).tolist()
        chosen = max(others, key=lambda i: scores[i])
        return scaled(p, x + strength * pool[[chosen]], copies)

    return with_momentum(p, lambda x, _: mean(mixed(x) for _ in range(mixtures)), **loop)


def vmi_fgsm(
    p: Problem, *, samples: int = 20, beta: float = 1.5, seed: int = 0, **loop: Any
) -> Tensor:
    own, variance = p.generator("variance_tuned", seed), torch.zeros_like(p.clean)

    def tuned(x: Tensor, ahead: Tensor) -> Tensor:
        nonlocal variance
        g, used = p.grad(ahead), variance
        near = mean(p.grad(x + uniform(x, own, beta * p.eps)) for _ in range(samples))
        variance = near - g
        return g + used

    return with_momentum(p, tuned, **loop)


def vni_fgsm(p: Problem, **settings: Any) -> Tensor:
    return vmi_fgsm(p, nesterov=True, **settings)


def pi_fgsm(p: Problem, *, steps: int = 10, amplification: float = 10.0) -> Tensor:
    """In multiples of a step, so that sums of what is cut are exact."""
    limit = steps / amplification
    x, sent = p.clean, np.zeros((3, *(side + 2 for side in p.clean.shape[2:])))
    inner = (slice(None), slice(1, -1), slice(1, -1))
    for _ in range(steps):
        step = p.grad(x)[0].sign().numpy()
        sent[inner] += step
        cut = np.maximum(abs(sent) - limit, 0) * np.sign(sent)
        passed_on = np.zeros_like(step)
        for c, i, j in np.ndindex(*step.shape):
            passed_on[c, i, j] = np.sign(cut[c, i : i + 3, j : j + 3].sum() - cut[c, i + 1, j + 1])
        sent[inner] += passed_on
        x = p.within(x + p.eps / limit * torch.tensor(step + passed_on).unsqueeze(0))
    return x


def ssa(
    p: Problem,
    *,
    samples: int = 20,
    spread: float = 0.5,
    sigma: float | None = None,
    seed: int = 0,
    **loop: Any,
) -> Tensor:
    """With scipy's transform, and back through it by hand: it is orthogonal."""
    own = p.generator("spectrum_noise", seed)
    deviation = p.eps if sigma is None else sigma

    def there(x: Tensor, scales: Tensor) -> Tensor:
        spectrum = scipy.fft.dctn(x[0].numpy(), axes=(1, 2), norm="ortho") * scales.numpy()
        return torch.tensor(scipy.fft.idctn(spectrum, axes=(1, 2), norm="ortho")).unsqueeze(0)

    def noisy(x: Tensor) -> Tensor:
        drawn = torch.empty_like(x[0]).normal_(0, deviation, generator=own)
        scales = torch.empty_like(x[0]).uniform_(1 - spread, 1 + spread, generator=own)
        return there(p.grad(there(x + drawn, scales)), scales)

    return with_momentum(p, lambda x, _: mean(noisy(x) for _ in range(samples)), **loop)


def pgn(
    p: Problem,
    *,
    samples: int = 20,
    reach: float = 3.0,
    balance: float = 0.5,
    seed: int = 0,
    steps: int = 10,
    step_size: float | None = None,
    accumulate: bool = False,
    **loop: Any,
) -> Tensor:
    own = p.generator("flat_maximum", seed)
    alpha = p.eps / (1 if accumulate else steps) if step_size is None else step_size

    def mixed(x: Tensor) -> Tensor:
        near = x + uniform(x, own, reach * p.eps)
        g = p.grad(near)
        return (1 - balance) * g + balance * p.grad(near - alpha * g / g.abs().mean())

    def flattened(x: Tensor, _: Tensor) -> Tensor:
        return mean(mixed(x) for _ in range(samples))

    return with_momentum(p, flattened, steps=steps, step_size=alpha, accumulate=accumulate, **loop)


def bsr(
    p: Problem,
    *,
    samples: int = 20,
    blocks: int = 2,
    degrees: float = 24.0,
    seed: int = 0,
    **loop: Any,
) -> Tensor:
    own = p.generator("shuffled_blocks", seed)

    def view(x: Tensor) -> Tensor:
        return shuffle_blocks(x, blocks, degrees, [own])

    return with_momentum(p, lambda x, _: mean(p.grad(x, view) for _ in range(samples)), **loop)


def tsail(p: Problem, *, decay: float = 1.0) -> Tensor:
    steps, parts = (20, 12) if p.eps > 7.5 / 255 else (40, 28)
    x, velocity = p.clean, torch.zeros_like(p.clean)
    for _ in range(steps):
        g = p.grad(x)
        velocity = decay * velocity + g / g.std(correction=0)
        velocity = velocity / velocity.std(correction=0)
        x = p.within(x + p.eps / parts * velocity.round().clamp(-2, 2))
    return x


LogitsLoss = Callable[[Tensor], Tensor]

NEVER_ZERO = 1e-12
"""In the authors' code; it decides the signs where a ratio is 1, whatever the logits."""


def autopgd_run(
    p: Problem, loss: LogitsLoss, steps: int, judged: list[int], own: torch.Generator
) -> list[Tensor]:
    """Algorithm 1, with the history of the image in lists: all points it visited."""

    def look(x: Tensor) -> tuple[float, Tensor]:
        x = x.detach().requires_grad_()
        value = loss(p.classifier(x)[0])
        return float(value.detach()), torch.autograd.grad(value, x)[0]

    start = uniform(p.clean, own, 1.0)
    xs = [p.within(p.clean + p.eps * start / start.abs().max())]
    visited = [xs[0]]
    fs, eta, f_max, x_max = [look(xs[0])[0]], [2 * p.eps], look(xs[0])[0], xs[0]
    f_max_at, judged = {0: f_max}, [0, *judged]
    for k in range(1, steps + 1):
        now, before = xs[-1], xs[-2] if k > 1 else xs[-1]
        z = p.within(now + eta[-1] * look(now)[1].sign())
        inertia = 0.75 if k > 1 else 1.0
        xs[-1:] = [now, p.within(now + inertia * (z - now) + (1 - inertia) * (now - before))]
        visited.append(xs[-1])
        fs.append(look(xs[-1])[0])
        if fs[-1] > f_max:
            f_max, x_max = fs[-1], xs[-1]
        eta.append(eta[-1])
        f_max_at[k] = f_max
        if k in judged:
            last = judged[judged.index(k) - 1]
            rises = sum(fs[i + 1] > fs[i] for i in range(last, k))
            same_step = last == 0 or eta[last + 1] == eta[last]
            stalls = rises < 0.75 * (k - last)
            stuck = same_step and f_max_at[last] == f_max
            if stalls or stuck:
                eta[-1] = eta[-1] / 2
                xs[-1] = x_max
    return visited


def checkpoints(steps: int) -> list[int]:
    """After which steps the step size is judged: section 3, in shares of all steps."""
    p, shares = [0.0, 0.22], []
    while p[-1] < 1 - 1e-9:
        shares.append(p[-1])
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    return sorted({int(np.ceil(s * steps - 1e-9)) for s in shares})


def autopgd(
    p: Problem, loss: LogitsLoss, *, steps: int = 100, restarts: int = 1, seed: int = 0
) -> Tensor:
    own, sign = p.generator("autopgd", seed), -1 if p.targeted else 1
    runs = [
        autopgd_run(p, lambda z: sign * loss(z), steps, checkpoints(steps), own)
        for _ in range(restarts)
    ]
    return max((x for visited in runs for x in visited), key=p.gain)


def autopgd_ce(p: Problem, **settings: Any) -> Tensor:
    if p.labels.dim() == 2:
        return autopgd(p, lambda z: -(p.labels[0] * z.softmax(0)).sum().log(), **settings)
    return autopgd(p, lambda z: functional.cross_entropy(z, p.labels[0]), **settings)


def autopgd_dlr(p: Problem, **settings: Any) -> Tensor:
    def ratio(z: Tensor) -> Tensor:
        first, _, third = z.sort(descending=True).values[:3]
        if p.labels.dim() == 2:
            own, other = (z + q.log() for q in (p.labels[0], 1 - p.labels[0]))
            gap = own.max() - other.max()
        else:
            gap = z[p.label] - torch.cat([z[: p.label], z[p.label + 1 :]]).max()
        value: Tensor = -gap / (first - third + NEVER_ZERO)
        return value

    return autopgd(p, ratio, **settings)


def autopgd_targets(p: Problem, *, steps: int = 100, targets: int = 9, seed: int = 0) -> Tensor:
    own, label, visited = p.generator("autopgd", seed), p.label, []
    order = p.classifier(p.clean)[0].argsort(descending=True).tolist()
    for target in [c for c in order if c != label][:targets]:

        def ratio(z: Tensor, target: int = target) -> Tensor:
            first, _, third, fourth = z.sort(descending=True).values[:4]
            gap = first - (third + fourth) / 2 + NEVER_ZERO
            value: Tensor = -(z[label] - z[target]) / gap
            return value

        visited += autopgd_run(p, ratio, steps, checkpoints(steps), own)
    return max(visited, key=replace(p, labels=torch.tensor([label])).gain)


SLOW: Mapping[str, Callable[..., Tensor]] = {
    reference.__name__: reference
    for reference in (
        *(fgsm, i_fgsm, pgd, mi_fgsm, da_fgsm, ni_fgsm, di_fgsm, ti_fgsm, si_fgsm, si_ni_fgsm),
        *(di_ti_si_mi_fgsm, admix, vmi_fgsm, vni_fgsm, pi_fgsm, ssa, pgn, bsr, tsail),
        *(autopgd_ce, autopgd_dlr, autopgd_targets),
    )
}
"""By the names of `ATTACKS`; `universal` adds what was fitted, and has nothing to write out."""
