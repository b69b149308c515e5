"""Transformations and ensembles against what they are by definition."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from advcomp.players.classifiers import Classifier
from advcomp.players.defenses import bit_depth, jpeg, median_filter, random_resize_pad
from advcomp.players.ensemble import Ensemble, Fusion
from advcomp.players.pixels import quantise, to_float
from advcomp.players.randomness import image_generators
from advcomp.players.resizing import padded_side, resize_and_pad


@pytest.fixture
def images() -> Tensor:
    levels = np.random.default_rng(0).integers(256, size=(6, 32, 32, 3), dtype=np.uint8)
    return to_float(levels)


@pytest.fixture
def members() -> list[Classifier]:
    return [Classifier("conv_net", 10), Classifier("mlp_mixer", 10)]


def test_jpeg_is_pillows(images: Tensor) -> None:
    file = BytesIO()
    Image.fromarray(quantise(images)[3]).save(file, "JPEG", quality=50)
    np.testing.assert_array_equal(quantise(jpeg(images, 50))[3], np.array(Image.open(file)))


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_rounds_to_the_nearest_level_left(bits: int) -> None:
    levels = to_float(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3))
    left = torch.arange(2**bits) / (2**bits - 1)
    reduced = bit_depth(levels, bits)
    distance = (levels.unsqueeze(-1) - left).abs().min(-1).values
    assert len(set(reduced.flatten().tolist())) == 2**bits
    torch.testing.assert_close((levels - reduced).abs(), distance)


def test_the_median_filter_is_pillows_inside_and_mirrors_at_the_edge(images: Tensor) -> None:
    filtered = quantise(median_filter(images, 3))[0]
    expected = np.array(Image.fromarray(quantise(images)[0]).filter(ImageFilter.MedianFilter(3)))
    np.testing.assert_array_equal(filtered[1:-1, 1:-1], expected[1:-1, 1:-1])
    corner = np.pad(quantise(images)[0], ((1, 1), (1, 1), (0, 0)), mode="reflect")[:3, :3]
    np.testing.assert_array_equal(filtered[0, 0], np.median(corner, axis=(0, 1)))


def test_the_median_of_an_even_window_is_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="odd size"):
        median_filter(images, 2)


def test_the_enlarged_side_is_in_proportion_to_the_papers() -> None:
    assert padded_side(299, 331) == 331
    assert padded_side(299, 330) == 330
    assert padded_side(32, 331) == 35


def test_a_padded_image_is_the_enlarged_one_on_black() -> None:
    ones = torch.ones(300, 3, 32, 32)
    generators = [torch.Generator().manual_seed(i) for i in range(300)]
    squares = resize_and_pad(ones, 35, generators)
    assert squares.shape == (300, 3, 35, 35)
    sides, places = set(), set()
    for square in squares:
        rows, columns = (square[0].amax(axis).nonzero().flatten() for axis in (1, 0))
        assert len(rows) == len(columns)
        assert square.sum() == 3 * len(rows) ** 2
        sides.add(len(rows))
        places.add((len(rows), int(rows[0]), int(columns[0])))
    assert sides == {32, 33, 34}
    assert len(places) == 4**2 + 3**2 + 2**2


def test_a_random_label_depends_on_the_image_alone(images: Tensor) -> None:
    classifier = Classifier("separable_net", 10)
    whole = random_resize_pad(classifier, images, draws=3)
    some = random_resize_pad(classifier, images[[4, 1]], draws=3)
    torch.testing.assert_close(whole[[4, 1]], some)
    torch.testing.assert_close(whole.exp().sum(1), torch.ones(6))


def test_generators_differ_by_a_single_level_and_by_purpose(images: Tensor) -> None:
    nudged = images.clone()
    nudged[0, 0, 0, 0] += 1 / 255 if images[0, 0, 0, 0] < 0.5 else -1 / 255
    seeds = [
        image_generators(x, salt)[0].initial_seed()
        for x, salt in ((images, "a"), (images, "a"), (images, "b"), (nudged, "a"))
    ]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3


def test_fusions_are_what_they_are_called(images: Tensor, members: list[Classifier]) -> None:
    first, second = (member(images) for member in members)
    labels = torch.arange(6)
    weights = [1.0, 3.0]
    logits, probabilities, losses = (
        Ensemble(members, weights=weights, fusion=fusion) for fusion in Fusion
    )
    torch.testing.assert_close(logits(images), 0.25 * first + 0.75 * second)
    mean = 0.25 * first.softmax(1) + 0.75 * second.softmax(1)
    torch.testing.assert_close(probabilities(images).softmax(1), mean)
    torch.testing.assert_close(losses(images).softmax(1), mean)
    loss = nn.functional.cross_entropy
    torch.testing.assert_close(
        losses.attack_loss(images, labels),
        0.25 * loss(first, labels, reduction="none")
        + 0.75 * loss(second, labels, reduction="none"),
    )
    torch.testing.assert_close(
        probabilities.attack_loss(images, labels), -mean[range(6), labels].log()
    )
    torch.testing.assert_close(
        logits.attack_loss(images, labels),
        loss(0.25 * first + 0.75 * second, labels, reduction="none"),
    )


@pytest.mark.parametrize("fusion", list(Fusion))
def test_a_member_of_weight_0_has_no_say(
    fusion: Fusion, images: Tensor, members: list[Classifier]
) -> None:
    both, one = Ensemble(members, weights=[1, 0], fusion=fusion), members[0]
    torch.testing.assert_close(both(images).softmax(1), one(images).softmax(1))


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, -1.0], [0.0, 0.0]])
def test_weights_that_do_not_fit_are_refused(
    weights: list[float], members: list[Classifier]
) -> None:
    with pytest.raises(ValueError, match="one weight for each"):
        Ensemble(members, weights=weights)
