"""The steps of each attack, written out by hand a second time, as its paper puts them.

In float64, one image after another in plain loops. Random numbers are taken from generators seeded
as the hook's are.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
import torch
from support.attack_cases import EPS, images, network
from torch import Tensor, nn
from torch.nn import functional

from advcomp.players.attack.autopgd import Memory, autopgd, checkpoints, difference_of_logits_ratio
from advcomp.players.attack.input_transforms import diverse_inputs
from advcomp.players.attack.objectives import cross_entropy, margin
from advcomp.players.attack.transfer import (
    admix,
    di_ti_si_mi_fgsm,
    ni_fgsm,
    pgn,
    pi_fgsm,
    si_fgsm,
    si_ni_fgsm,
    ssa,
    ti_fgsm,
    vmi_fgsm,
    vni_fgsm,
)
from advcomp.players.attacks import (
    fgsm,
    iterative_fgsm,
    momentum_iterative_fgsm,
    pgd,
)
from advcomp.players.classifiers import Classifier
from advcomp.players.image.pixels import project_to_ball
from advcomp.players.image.randomness import image_generators
from advcomp.players.tsail import tsail

ALPHA = EPS / 10
Grad = Callable[[Tensor], Tensor]


@pytest.fixture
def classifier() -> Classifier:
    return network().double()


@pytest.fixture
def clean() -> Tensor:
    """One image: the attacks' batches are another test's."""
    return images(1, 32).double()


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([3])


@pytest.fixture
def grad(classifier: Classifier, labels: Tensor) -> Grad:
    def grad(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(functional.cross_entropy(classifier(x), labels), x)[0]

    return grad


def generator(clean: Tensor, salt: str) -> torch.Generator:
    return image_generators(clean, salt)[0]


def noise(clean: Tensor, own: torch.Generator, reach: float) -> Tensor:
    drawn = torch.empty(clean.shape[1:], dtype=torch.float64).uniform_(
        -reach, reach, generator=own
    )
    return drawn.unsqueeze(0)


def by_hand(clean: Tensor, g_of: Callable[[Tensor, Tensor], Tensor], mu: float = 1.0) -> Tensor:
    """MI-FGSM, given how the gradient of a step comes from the point and the velocity."""
    x, velocity = clean, torch.zeros_like(clean)
    for _ in range(10):
        g = g_of(x, velocity)
        velocity = mu * velocity + g / g.abs().mean()
        x = project_to_ball(x + ALPHA * velocity.sign(), clean, EPS)
    return x


def test_fgsm_i_fgsm_mi_fgsm_and_ni_fgsm(
    classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    x = clean
    for _ in range(10):
        x = project_to_ball(x + ALPHA * grad(x).sign(), clean, EPS)
    one = project_to_ball(clean + EPS * grad(clean).sign(), clean, EPS)
    assert torch.equal(fgsm(classifier, clean, labels, eps=EPS), one)
    assert torch.equal(iterative_fgsm(classifier, clean, labels, eps=EPS), x)
    for mu in (1.0, 0.5):
        found = momentum_iterative_fgsm(classifier, clean, labels, eps=EPS, decay=mu)
        assert torch.equal(found, by_hand(clean, lambda x, _: grad(x), mu))
        nesterov = by_hand(clean, lambda x, v, mu=mu: grad(x + ALPHA * mu * v), mu)  # type: ignore[misc]
        assert torch.equal(ni_fgsm(classifier, clean, labels, eps=EPS, decay=mu), nesterov)


def scaled(grad: Grad, x: Tensor) -> Tensor:
    """The chain rule puts the factor of a copy before its gradient."""
    return sum((grad(x / 2**i) / 2**i for i in range(5)), torch.zeros(())) / 5


def test_si_averages_the_gradients_of_five_copies(
    classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    found = si_fgsm(classifier, clean, labels, eps=EPS)
    assert torch.equal(found, by_hand(clean, lambda x, _: scaled(grad, x)))
    found = si_ni_fgsm(classifier, clean, labels, eps=EPS)
    assert torch.equal(found, by_hand(clean, lambda x, v: scaled(grad, x + ALPHA * v)))


def blurred(g: Tensor, radius: int) -> Tensor:
    """A double loop over the shifts of a Gaussian kernel whose radius is three sigma."""
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


@pytest.mark.parametrize("size", [None, 15])
def test_ti_blurs_the_gradient(
    size: int | None, classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    radius = 2 if size is None else 7
    found = ti_fgsm(classifier, clean, labels, eps=EPS, size=size)
    assert torch.equal(found, by_hand(clean, lambda x, _: blurred(grad(x), radius)))


def test_vmi_and_vni_add_the_variance_of_the_step_before(
    classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    for reach, attack in ((0.0, vmi_fgsm), (ALPHA, vni_fgsm)):
        own, variance = generator(clean, f"variance_tuned {EPS} 0"), torch.zeros_like(clean)

        def tuned(x: Tensor, v: Tensor, reach: float = reach) -> Tensor:
            nonlocal variance
            g = grad(x + reach * v)
            near = [grad(x + noise(clean, own, 1.5 * EPS)) for _ in range(20)]  # noqa: B023
            used, variance = variance, torch.stack(near).mean(0) - g
            return g + used

        expected = by_hand(clean, tuned)
        assert torch.equal(attack(classifier, clean, labels, eps=EPS), expected)


def test_pgn_mixes_each_sample_with_the_gradient_downhill_of_it(
    classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    own = generator(clean, f"flat_maximum {EPS} 0")

    def flattened(x: Tensor, velocity: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for _ in range(20):
            near = x + noise(clean, own, 3 * EPS)
            g = grad(near)
            total += 0.5 * g + 0.5 * grad(near - ALPHA * g / g.abs().mean())
        return total / 20

    assert torch.equal(pgn(classifier, clean, labels, eps=EPS), by_hand(clean, flattened))


def test_ssa_scales_the_frequencies_that_scipy_finds(
    classifier: Classifier, clean: Tensor, labels: Tensor
) -> None:
    own = generator(clean, f"spectrum_noise {EPS} 0")

    def grad(x: Tensor) -> Tensor:
        drawn = torch.empty(clean.shape[1:], dtype=torch.float64).normal_(0, EPS, generator=own)
        scales = torch.empty_like(drawn).uniform_(0.5, 1.5, generator=own).numpy()
        spectrum = scipy.fft.dctn((x[0] + drawn).numpy(), axes=(1, 2), norm="ortho")
        seen = torch.tensor(scipy.fft.idctn(spectrum * scales, axes=(1, 2), norm="ortho"))
        seen = seen.unsqueeze(0).requires_grad_()
        (g,) = torch.autograd.grad(functional.cross_entropy(classifier(seen), labels), seen)
        # Back through the same two transforms, which are orthogonal.
        back = scipy.fft.dctn(g[0].numpy(), axes=(1, 2), norm="ortho") * scales
        return torch.tensor(scipy.fft.idctn(back, axes=(1, 2), norm="ortho")).unsqueeze(0)

    expected = by_hand(clean, lambda x, _: torch.stack([grad(x) for _ in range(20)]).mean(0))
    assert torch.equal(ssa(classifier, clean, labels, eps=EPS), expected)


def test_admix_adds_a_fifth_of_another_class_at_five_scales(
    classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    pool, pool_labels = images(6, 32).double(), torch.tensor([3, 0, 3, 1, 2, 3])
    own = generator(clean, f"admixed {EPS} 0")
    used = []

    def mixed(x: Tensor, velocity: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for _ in range(3):
            scores = torch.empty(6, dtype=torch.float64).uniform_(0, 1, generator=own).tolist()
            chosen = max((1, 3, 4), key=lambda i: scores[i])
            used.append(chosen)
            total += scaled(grad, x + 0.2 * pool[[chosen]])
        return total / 3

    found = admix(classifier, clean, labels, eps=EPS, pool=pool, pool_labels=pool_labels)
    assert torch.equal(found, by_hand(clean, mixed))
    assert set(used) == {1, 3, 4}


def test_di_ti_si_mi_resizes_each_copy_on_its_own_and_blurs(
    classifier: Classifier, clean: Tensor, labels: Tensor
) -> None:
    transforms = diverse_inputs(clean, eps=EPS)

    def grad(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (transform,) = transforms()
        return torch.autograd.grad(functional.cross_entropy(classifier(transform(x)), labels), x)[
            0
        ]

    expected = by_hand(clean, lambda x, _: blurred(scaled(grad, x), 2))
    assert torch.equal(di_ti_si_mi_fgsm(classifier, clean, labels, eps=EPS), expected)


def test_pi_passes_on_what_a_pixel_cannot_take(
    classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    """In whole steps of size eps, where the paper's amplification of 10 meets its 10 steps."""
    x, sent = clean, np.zeros((3, 34, 34), dtype=int)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    for _ in range(10):
        step = grad(x)[0].sign().numpy().astype(int)
        sent[inner] += step
        cut = np.maximum(abs(sent) - 1, 0) * np.sign(sent)
        passed_on = np.zeros_like(step)
        for c, i, j in np.ndindex(*step.shape):
            around = cut[c, i : i + 3, j : j + 3].sum() - cut[c, i + 1, j + 1]
            passed_on[c, i, j] = np.sign(around)
        sent[inner] += passed_on
        x = project_to_ball(x + EPS * torch.tensor(step + passed_on).unsqueeze(0), clean, EPS)
    torch.testing.assert_close(pi_fgsm(classifier, clean, labels, eps=EPS), x)


@pytest.mark.parametrize(("levels", "steps", "parts"), [(16, 20, 12), (8, 20, 12), (7, 40, 28)])
def test_tsail_rounds_its_velocity(
    levels: int,
    steps: int,
    parts: int,
    classifier: Classifier,
    clean: Tensor,
    grad: Grad,
    labels: Tensor,
) -> None:
    eps = levels / 255
    x, velocity = clean, torch.zeros_like(clean)
    for _ in range(steps):
        g = -grad(x)  # as published: down the loss at the target
        velocity = velocity + g / g.std(correction=0)
        velocity = velocity / velocity.std(correction=0)
        x = project_to_ball(x + eps / parts * velocity.round().clamp(-2, 2), clean, eps)
    found = tsail(classifier, clean, labels, eps=eps, targeted=True)
    torch.testing.assert_close(found, x)


def test_pgd_starts_within_the_ball_and_keeps_the_best_restart(
    classifier: Classifier, clean: Tensor, labels: Tensor, grad: Grad
) -> None:
    own, best = generator(clean, f"pgd {EPS} 0"), clean
    worst = -torch.inf
    for _ in range(4):
        x = project_to_ball(clean + noise(clean, own, EPS), clean, EPS)
        for _ in range(3):
            x = project_to_ball(x + 2.5 * EPS / 3 * grad(x).sign(), clean, EPS)
        logits = classifier(x)[0].detach()
        others = torch.cat([logits[:3], logits[4:]])
        if (gain := float(others.max() - logits[3])) > worst:
            best, worst = x, gain
    found = pgd(classifier, clean, labels, eps=EPS, steps=3, restarts=4)
    torch.testing.assert_close(found, best)


def test_each_image_keeps_its_own_best_restart(classifier: Classifier) -> None:
    clean, labels = images(6, 32).double(), torch.arange(6)
    for targeted in (False, True):
        margins = [
            margin(
                classifier(
                    pgd(classifier, clean, labels, eps=EPS, steps=1, restarts=n, targeted=targeted)
                ),
                labels,
            )
            for n in (1, 2, 4)
        ]
        towards = -1 if targeted else 1
        for few, more in pairwise(margins):
            assert (towards * (more - few) >= 0).all()
        assert (towards * (margins[2] - margins[0]) > 0).any()


def test_the_checkpoints_of_autopgd_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [1]
    for steps in (5, 10, 33, 1000):
        p, shares = [0.0, 0.22], []
        while p[-1] < 1 - 1e-9:
            shares.append(p[-1])
            p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
        assert checkpoints(steps) == sorted({int(np.ceil(s * steps - 1e-9)) for s in shares})


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_autopgd_step_by_step(
    loss: str, classifier: Classifier, clean: Tensor, labels: Tensor
) -> None:
    """Algorithm 1, with the history of one image in lists."""
    steps = 30
    of = {"ce": cross_entropy, "dlr": difference_of_logits_ratio}[loss]

    def look(x: Tensor) -> tuple[float, Tensor]:
        x = x.detach().requires_grad_()
        value = of(classifier(x), labels)[0]
        return float(value.detach()), torch.autograd.grad(value, x)[0]

    start = noise(clean, generator(clean, f"autopgd {EPS} 0"), 1.0)
    xs = [project_to_ball(clean + EPS * start / start.abs().max(), clean, EPS)]
    visited = [xs[0]]
    fs, eta, f_max, x_max = [look(xs[0])[0]], [2 * EPS], look(xs[0])[0], xs[0]
    f_max_at, judged = {0: f_max}, [0, *checkpoints(steps)]
    for k in range(1, steps + 1):
        now, before = xs[-1], xs[-2] if k > 1 else xs[-1]
        z = project_to_ball(now + eta[-1] * look(now)[1].sign(), clean, EPS)
        inertia = 0.75 if k > 1 else 1.0
        xs[-1:] = [
            now,
            project_to_ball(
                now + inertia * (z - now) + (1 - inertia) * (now - before), clean, EPS
            ),
        ]
        visited.append(xs[-1])
        fs.append(look(xs[-1])[0])
        if fs[-1] > f_max:
            f_max, x_max = fs[-1], xs[-1]
        eta.append(eta[-1])
        if k in judged:
            last = judged[judged.index(k) - 1]
            rises = sum(fs[i + 1] > fs[i] for i in range(last, k))
            same_step = last == 0 or eta[last + 1] == eta[last]
            first = rises < 0.75 * (k - last)
            second = same_step and f_max_at[last] == f_max
            f_max_at[k] = f_max
            if first or second:
                eta[-1] = eta[-1] / 2
                xs[-1] = x_max
        else:
            f_max_at[k] = f_max
    best = max(visited, key=lambda x: float(margin(classifier(x), labels).detach()))
    found = autopgd(classifier, clean, labels, eps=EPS, steps=steps, loss=loss)
    torch.testing.assert_close(found, best, rtol=0, atol=1e-9)


def test_an_image_halves_its_step_where_it_stalls_or_is_stuck() -> None:
    """Of four images, at checkpoints after four steps and after eight.

    One rises above its peak; one rises below it, so that only its peak tells; one hardly rises;
    one halved for its peak alone, and is let off the next time, as the paper's condition 2 has it.
    """
    x = torch.arange(4.0).view(4, 1, 1, 1)
    memory = Memory(x, torch.full((4,), 5.0), 10 * x, step_size=1.0)
    rising, below, flat = [6.0, 7.0, 8.0, 9.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 1.0, 2.0]
    steps = []
    for turn in range(2):
        for i in range(4):
            up = rising[i] + 4 * turn
            values = torch.tensor([up, below[i] if turn == 0 else up, flat[i], below[i] + turn])
            memory.note(x + 100, values, 10 * (x + 100))
        back, gradient = memory.adapt(4 * (turn + 1), x + 100, 10 * (x + 100))
        steps.append(memory.step_size.flatten().tolist())
        assert torch.equal(gradient, 10 * back)
        returned = [bool(at) for at in (back == x).flatten()]
        assert returned == [[False, True, True, True], [False, False, True, False]][turn]
    assert steps == [[1, 0.5, 0.5, 0.5], [1, 0.5, 0.25, 0.5]]


def test_the_ratio_of_logits_is_that_of_the_paper() -> None:
    logits = torch.tensor([[4.0, 1.0, 3.0, 0.5], [4.0, 1.0, 3.0, 0.5]])
    found = difference_of_logits_ratio(logits, torch.tensor([0, 3]))
    torch.testing.assert_close(found, torch.tensor([-(4 - 3) / (4 - 1), -(0.5 - 4) / (4 - 1)]))
    shifted = difference_of_logits_ratio(7 * logits + 2, torch.tensor([0, 3]))
    torch.testing.assert_close(found, shifted)


def test_a_ratio_of_logits_needs_three_classes() -> None:
    two = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(ValueError, match="2 classes"):
        autopgd(two, images(1), torch.tensor([0]), eps=EPS, loss="dlr")
