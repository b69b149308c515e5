"""Transforms: drawn by key, differentiable, and each what its name says."""

from collections.abc import Sequence

import pytest
import torch
from torch import Generator, Tensor

from advcomp.attacknet.objective.transforms import _TRANSFORMS, transformed
from advcomp.attacknet.recipe import TransformItem, TransformName
from advcomp.training.draws import generator_of, integer, key_of, uniform


def images(n: int = 3, side: int = 16) -> Tensor:
    return torch.rand(n, 3, side, side, generator=generator_of("images"), dtype=torch.float64)


@pytest.mark.parametrize("name", TransformName)
def test_an_image_is_transformed_by_its_own_key_alone(name: TransformName) -> None:
    x, items = images(), [TransformItem(name=name)]
    together = transformed(x, items, [1, 2, 3])
    assert together.shape == x.shape
    assert together.dtype == x.dtype
    assert torch.equal(together[1:2], transformed(x[1:2], items, [2]))
    assert torch.equal(together, transformed(x, items, [1, 2, 3]))
    if name is not TransformName.SMOOTH:
        assert not torch.allclose(together[0], transformed(x[:1], items, [9])[0])


@pytest.mark.parametrize("name", TransformName)
def test_gradients_flow_through_a_transform(name: TransformName) -> None:
    """All are linear in the image, so the gradient is the transform transposed."""
    x, items = images(1).requires_grad_(), [TransformItem(name=name)]
    out = transformed(x, items, [4])
    towards = torch.rand_like(out)
    (gradient,) = torch.autograd.grad((out * towards).sum(), x)
    torch.testing.assert_close((gradient * x).sum(), (out * towards).sum())
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", TransformName)
def test_probability_says_how_often(name: TransformName) -> None:
    x = images(1, 8).expand(200, -1, -1, -1)
    keys = range(200)
    never = transformed(x, [TransformItem(name=name, probability=0.0)], keys)
    assert torch.equal(never, x)
    often = transformed(x, [TransformItem(name=name, probability=0.3)], keys)
    assert 35 <= int((often != x).any((1, 2, 3)).sum()) <= 85


def test_only_the_images_drawn_are_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody sees costs nothing, and changes no draw of the others."""
    whole, seen = _TRANSFORMS[TransformName.SCALE], []

    def counted(x: Tensor, item: TransformItem, own: Sequence[Generator]) -> Tensor:
        seen.append(len(x))
        return whole(x, item, own)

    monkeypatch.setitem(_TRANSFORMS, TransformName.SCALE, counted)
    x, item = images(40), TransformItem(name=TransformName.SCALE, probability=0.5)
    out = transformed(x, [item], range(40))
    changed = (out != x).any((1, 2, 3))
    assert seen == [int(changed.sum())]
    assert 0 < seen[0] < 40
    for row in (0, 7, 39):
        torch.testing.assert_close(transformed(x[row : row + 1], [item], [row])[0], out[row])


def test_block_shuffle_without_a_turn_only_moves_pixels() -> None:
    x = images()
    item = TransformItem(name=TransformName.BLOCK_SHUFFLE, blocks=3, max_degrees=0.0)
    out = transformed(x, [item], [1, 2, 3])
    assert not torch.allclose(out, x)
    torch.testing.assert_close(out.flatten(2).sort().values, x.flatten(2).sort().values)


def test_a_turned_block_turns_about_its_middle_and_leaves_black() -> None:
    """One block: however far it turns, a white image looks the same upside down."""
    item = TransformItem(name=TransformName.BLOCK_SHUFFLE, blocks=1, max_degrees=180.0)
    x = torch.ones(8, 3, 16, 16, dtype=torch.float64)
    out = transformed(x, [item], range(8))
    assert 0 < (out == 0).double().mean() < 0.4
    torch.testing.assert_close(out, out.flip(2, 3))


def test_scale_and_smooth_do_what_they_say() -> None:
    x = images()
    scaled = transformed(x, [TransformItem(name=TransformName.SCALE, low=0.5)], [1, 2, 3]) / x
    factors = scaled[:, 0, 0, 0]
    torch.testing.assert_close(scaled, factors.view(-1, 1, 1, 1).expand_as(x))
    assert (factors >= 0.5).all()
    assert (factors < 1).all()
    point = torch.zeros(1, 3, 33, 33, dtype=torch.float64)
    point[:, :, 16, 16] = 1
    blurred = transformed(point, [TransformItem(name=TransformName.SMOOTH, sigma=2.0)], [0])
    assert blurred.sum().item() == pytest.approx(3)
    row = blurred[0, 0].sum(0)
    variance = (row * (torch.arange(33) - 16) ** 2).sum().item()
    assert variance == pytest.approx(4, rel=0.05)


def test_keys_differ_by_every_part_of_their_address() -> None:
    addresses: list[tuple[int | str, ...]] = [
        (0, "a", 1),
        (0, "a", 2),
        (0, "b", 1),
        (1, "a", 1),
        (0, "a", "1"),
        (0, "a", 11),
    ]
    keys = {key_of(*address) for address in addresses}
    assert len(keys) == len(addresses)
    assert all(0 <= key < 2**63 for key in keys)
    assert key_of(0, "a", 1) == key_of(0, "a", 1)


def test_draws_cover_their_range() -> None:
    generator = generator_of("range")
    numbers = [uniform(generator, 2, 3) for _ in range(500)]
    assert 2 <= min(numbers) < 2.02
    assert 2.98 < max(numbers) < 3
    assert {integer(generator, 4) for _ in range(100)} == {0, 1, 2, 3}
