"""The hooks that attacks are made of: what they show the classifier, and how they combine."""

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.fft
import torch
from support.attack_cases import EPS, images
from torch import Tensor

from advcomp.players.attack.block_shuffle import Strips, shuffled_blocks
from advcomp.players.attack.gradients import translation_invariant
from advcomp.players.attack.hooks import InputTransforms, chain, gradient_of, mean_gradient, stack
from advcomp.players.attack.input_transforms import (
    admixed,
    cosines,
    diverse_inputs,
    scaled_copies,
    spectrum_noise,
)
from advcomp.players.attack.objectives import cross_entropy, margin, objective
from advcomp.players.attacks import Momentum
from advcomp.players.image.pixels import ball, project_to_ball, quantise
from advcomp.players.image.randomness import image_generators, normal_like, uniform_like
from advcomp.players.image.resizing import in_proportion, padded_side


def seen(transforms: InputTransforms, x: Tensor) -> list[Tensor]:
    return [transform(x) for transform in transforms()]


RANDOM_TRANSFORMS = {
    "diverse_inputs": lambda x: diverse_inputs(x, eps=EPS),
    "spectrum_noise": lambda x: spectrum_noise(x, eps=EPS, samples=3),
    "shuffled_blocks": lambda x: shuffled_blocks(x, eps=EPS, samples=3),
}


@pytest.mark.parametrize("name", RANDOM_TRANSFORMS)
def test_a_transform_depends_on_the_image_alone_and_changes_from_step_to_step(name: str) -> None:
    clean = images(6, 32)
    transforms, again = RANDOM_TRANSFORMS[name](clean), RANDOM_TRANSFORMS[name](clean[[4, 1]])
    first, second = seen(transforms, clean), seen(transforms, clean)
    torch.testing.assert_close(first[0][[4, 1]], seen(again, clean[[4, 1]])[0])
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[0].shape == clean.shape


def test_diverse_inputs_change_as_many_images_as_they_should() -> None:
    clean = images(200, 8)
    for probability in (0.0, 0.25, 1.0):
        (result,) = seen(diverse_inputs(clean, eps=EPS, probability=probability), clean)
        changed = (result != clean).flatten(1).any(1).float().mean()
        assert abs(changed - probability) < 0.1


def test_diverse_inputs_have_a_gradient_for_every_image() -> None:
    x = images(5, 32).requires_grad_()
    (result,) = seen(diverse_inputs(x.detach(), eps=EPS, probability=0.5), x)
    (g,) = torch.autograd.grad(result.sum(), x)
    assert (g.flatten(1).abs().amax(1) > 0).all()


def test_copies_of_an_image_get_darker_by_halves() -> None:
    x = images()
    for i, copy in enumerate(seen(scaled_copies(5), x)):
        assert torch.equal(copy, x / 2**i)


def test_cosines_are_those_of_scipy_and_turn_back() -> None:
    for length in (1, 8, 33):
        x = np.random.default_rng(0).standard_normal(length)
        expected = torch.tensor(scipy.fft.dct(x, norm="ortho"))
        matrix = cosines(length)
        torch.testing.assert_close(matrix @ torch.tensor(x), expected)
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(length, dtype=torch.float64))


def test_a_spectrum_works_for_images_that_are_not_square() -> None:
    x = torch.rand(2, 3, 8, 12)
    (same,) = seen(spectrum_noise(x, eps=EPS, samples=1, spread=0, sigma=0), x)
    torch.testing.assert_close(same, x)


def same_levels(found: Tensor, expected: Tensor) -> None:
    """To the rounding of the points that are looked up."""
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (1, 9)])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_unrotated_blocks_are_a_permutation_of_the_pixels(
    blocks: int, shape: tuple[int, int]
) -> None:
    x = torch.rand(4, 3, *shape)
    results = seen(shuffled_blocks(x, eps=EPS, samples=8, blocks=blocks, degrees=0), x)
    for result in results:
        same_levels(result.flatten(2).sort(2).values, x.flatten(2).sort(2).values)
    assert any(not torch.allclose(result, x, atol=1e-4) for result in results) is (blocks > 1)


def test_blocks_keep_their_pixels_together() -> None:
    """Cut by hand where the strips say: each block of the result is one of the image."""
    x = torch.arange(64.0).view(1, 1, 8, 8) / 64
    generators = image_generators(x, f"shuffled_blocks {EPS} 0")
    rows, columns = (Strips(8, x, 2, generators) for _ in range(2))
    (result,) = seen(shuffled_blocks(x, eps=EPS, samples=1, degrees=0), x)
    for i, j in np.ndindex(8, 8):
        from_row, from_column = (
            int(strips.middle[0, at] + strips.offset[0, at])
            for strips, at in ((rows, i), (columns, j))
        )
        same_levels(result[0, 0, i, j], x[0, 0, from_row, from_column])
    for strips in (rows, columns):
        steps = strips.strip[0].diff()
        assert (steps != 0).sum() <= 1  # two strips, each in one piece


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("degrees", [24, 170])
def test_rotated_blocks_are_what_torchvision_makes_of_each(blocks: int, degrees: int) -> None:
    """Of each that is left, cut out by hand: what lies beyond a block is black, not the next."""
    from torchvision.transforms.functional import InterpolationMode, rotate

    x = torch.rand(1, 3, 15, 22)
    generators = image_generators(x, f"shuffled_blocks {EPS} 0")
    rows, columns = (Strips(length, x, blocks, generators) for length in (15, 22))
    low, high = -np.radians(degrees), np.radians(degrees)
    angles = uniform_like(x.new_empty(1, blocks**2), low, high, generators)[0].tolist()
    (result,) = seen(shuffled_blocks(x, eps=EPS, samples=1, blocks=blocks, degrees=degrees), x)
    for row, column in np.ndindex(blocks, blocks):
        down, across = strip_of(rows, row), strip_of(columns, column)
        if down.laid and across.laid:
            block = x[:, :, down.source][..., across.source]
            angle = -np.degrees(angles[row * blocks + column])
            turned = rotate(block, angle, interpolation=InterpolationMode.BILINEAR)
            same_levels(result[:, :, down.laid][..., across.laid], turned)


@dataclass(frozen=True)
class Strip:
    """Where one lies now, and where it came from."""

    laid: list[int]
    source: list[int]


def strip_of(strips: Strips, number: int) -> Strip:
    laid = (strips.strip[0] == number).nonzero().flatten().tolist()
    source = (strips.middle + strips.offset)[0, laid]
    return Strip(laid=laid, source=source.round().long().tolist())


def test_all_orders_of_strips_and_all_cuts_occur() -> None:
    x = torch.rand(300, 1, 6, 6)
    strips = Strips(6, x, 3, image_generators(x, "test"))
    orders = {tuple(dict.fromkeys(row.tolist())) for row in strips.strip}
    ends = strips.middle + (strips.extent + 1) / 2
    assert {order for order in orders if len(order) == 3} == {
        *((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    }
    assert {int(end) for end in ends.flatten().tolist()} == {1, 2, 3, 4, 5, 6}


def test_admix_takes_images_of_other_classes_only_and_each_in_turn() -> None:
    clean, labels = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    pool = (torch.arange(1, 5) / 8).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    transforms = admixed(
        clean + torch.tensor([0.0, 0.5]).view(2, 1, 1, 1),
        labels,
        eps=EPS,
        pool=pool,
        pool_labels=torch.tensor([0, 1, 2, 0]),
        mixtures=60,
    )
    added = torch.stack(seen(transforms, clean))[:, :, 0, 0, 0] / 0.2 * 8
    found = [set(added[:, i].round().int().tolist()) for i in range(2)]
    assert found == [{2, 3}, {1, 3, 4}]


def test_admix_says_what_is_wrong_with_a_pool() -> None:
    clean, labels = images(2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="another class"):
        admixed(clean, labels, eps=EPS, pool=clean, pool_labels=torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"expected images \(3, 8, 8\)"):
        admixed(clean, labels, eps=EPS, pool=images(2, 4), pool_labels=labels)


def test_stacked_views_are_each_seen_through_each() -> None:
    x = images()
    dark = scaled_copies(2)
    shifts: InputTransforms = lambda: [lambda x, s=s: x + s for s in (1.0, 2.0, 3.0)]  # type: ignore[misc]  # noqa: E731
    expected = [x / 2**i + s for i in range(2) for s in (1.0, 2.0, 3.0)]
    for found, result in zip(seen(stack(dark, shifts), x), expected, strict=True):
        assert torch.equal(found, result)


def test_chained_gradients_work_on_each_other_in_order() -> None:
    double = lambda gradient: lambda x: 2 * gradient(x)  # noqa: E731
    plus = lambda gradient: lambda x: gradient(x) + 1  # noqa: E731
    x = images()
    assert torch.equal(chain(double, plus)(torch.zeros_like)(x), torch.ones_like(x))
    assert torch.equal(chain(plus, double)(torch.zeros_like)(x), 2 * torch.ones_like(x))
    assert torch.equal(chain()(torch.ones_like)(x), torch.ones_like(x))


def test_a_field_is_the_mean_over_its_views() -> None:
    x = images()
    found = gradient_of(lambda x: (x**2).sum(), scaled_copies(2))(x)
    torch.testing.assert_close(found, (2 * x + 2 * x / 4) / 2)


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one transform or sample"):
        mean_gradient(iter([]))


def test_momentum_survives_steps_without_a_gradient() -> None:
    momentum = Momentum(1.0)
    g = torch.ones(2, 1, 2, 2)
    momentum(g)
    for still in (torch.zeros_like(g), g * 1e-45):
        assert torch.equal(momentum(still), g)


def test_a_blur_of_a_point_is_the_kernel() -> None:
    point = torch.zeros(1, 3, 9, 9)
    point[..., 4, 4] = 1
    blurred = translation_invariant(point, size=5)(lambda x: point)(point)
    line = torch.exp(-((3 * (torch.arange(9) - 4) / 2) ** 2) / 2)
    line[[0, 1, 7, 8]] = 0
    torch.testing.assert_close(blurred[0, 0], torch.outer(line, line) / line.sum() ** 2)


@pytest.mark.parametrize("size", [1, 4, -3])
def test_a_kernel_that_blurs_nothing_or_has_no_middle_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="odd size"):
        translation_invariant(images(), size=size)


def test_lengths_are_in_proportion_to_the_side_of_the_papers_images() -> None:
    assert [in_proportion(7, side, least=2) for side in (32, 64, 224, 299, 598)] == [
        *(2, 2, 5, 7, 14)
    ]
    assert [padded_side(side, 330) for side in (2, 32, 299)] == [3, 35, 330]


def test_random_numbers_are_an_images_own() -> None:
    clean = images(3)
    whole = uniform_like(clean, -1, 1, image_generators(clean, "test"))
    alone = uniform_like(clean[1:2], -1, 1, image_generators(clean[1:2], "test"))
    assert torch.equal(whole[1:2], alone)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, uniform_like(clean, -1, 1, image_generators(clean, "other")))
    spread = normal_like(torch.empty(2, 3, 64, 64), 2.0, image_generators(images(2), "test"))
    assert abs(float(spread.std()) - 2) < 0.05
    with pytest.raises(ValueError, match="generator for each of 3"):
        uniform_like(clean, 0, 1, image_generators(clean[:2], "test"))


def test_a_ball_is_what_projection_leaves_alone() -> None:
    levels = torch.arange(256).view(1, 1, 16, 16) / 255
    for max_epsilon in range(256):
        eps = max_epsilon / 255
        low, high = ball(levels, eps)
        for sign, side in ((-1, low), (1, high)):
            moved = project_to_ball(levels + sign * 2 * eps, levels, eps)
            expected = (levels + sign * eps).clamp(0, 1)
            assert torch.equal(moved, expected)
            assert torch.equal(side, expected)
        budget = abs(quantise(low).astype(int) - quantise(levels)).max()
        assert budget == max_epsilon


def test_a_margin_is_positive_where_and_only_where_the_label_is_not_the_answer() -> None:
    logits, labels = torch.randn(100, 5), torch.randint(5, (100,))
    assert torch.equal(margin(logits, labels) > 0, logits.argmax(1) != labels)


def test_an_objective_is_the_sum_over_the_batch_and_its_negative_where_targeted() -> None:
    logits, labels = torch.randn(4, 5), torch.arange(4)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    for targeted, sign in ((False, 1), (True, -1)):
        maximised = objective(lambda x: x, labels, targeted=targeted)(logits)
        torch.testing.assert_close(maximised, sign * losses.sum())


def test_a_loss_of_one_saturated_image_is_still_continuous() -> None:
    gaps = torch.linspace(5, 200, 400).double()
    logits = torch.stack([gaps, -gaps], 1).float()
    loss = cross_entropy(logits, torch.zeros(400, dtype=torch.int64))
    assert (loss.abs() < 1e-2).all()
