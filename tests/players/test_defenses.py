"""Transformations and ensembles against what they are by definition."""

from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage import restoration
from torch import Tensor, nn

from advcomp.players.attack.objectives import cross_entropy
from advcomp.players.classifier.answers import Model
from advcomp.players.classifiers import Classifier
from advcomp.players.defenses import (
    add_noise,
    average_over,
    barrage,
    bit_depth,
    crop_and_rescale,
    jpeg,
    median_filter,
    random_flip,
    random_resize_pad,
    total_variation,
    wavelet,
)
from advcomp.players.ensemble import Ensemble, Fusion
from advcomp.players.image.pixels import quantise, to_float
from advcomp.players.image.randomness import image_generators
from advcomp.players.image.resizing import padded_side, resize_and_pad

FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "bit_depth": partial(bit_depth, bits=3),
    "median_filter": median_filter,
    "jpeg": jpeg,
    "total_variation": total_variation,
    "wavelet": wavelet,
}

AVERAGES: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "random_resize_pad": partial(random_resize_pad, draws=3, flip=True),
    "crop_and_rescale": partial(average_over, transform=crop_and_rescale, draws=3),
    "barrage": partial(average_over, transform=barrage, draws=3),
}


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


@pytest.mark.parametrize("bits", [0, 9])
def test_an_impossible_bit_depth_is_refused(bits: int, images: Tensor) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 8 bits; got {bits}"):
        bit_depth(images, bits)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_median_filter_is_that_of_the_mirrored_image(size: int, images: Tensor) -> None:
    """The middle of an even window is its lower right pixel, as in the paper."""
    image = quantise(images)[0]
    before, after = size // 2, (size - 1) // 2
    padded = np.pad(image, ((before, after), (before, after), (0, 0)), mode="symmetric")
    expected = np.empty_like(image)
    for row, column, channel in np.ndindex(image.shape):
        window = padded[row : row + size, column : column + size, channel]
        expected[row, column, channel] = sorted(window.flat)[size**2 // 2]
    np.testing.assert_array_equal(quantise(median_filter(images, size))[0], expected)


def test_the_median_filter_is_scipys_image_by_image(images: Tensor) -> None:
    filtered = median_filter(images, 3)
    for image, result in zip(images.numpy(), filtered.numpy(), strict=True):
        for channel in range(3):
            expected = ndimage.median_filter(image[channel], size=3)
            np.testing.assert_array_equal(result[channel], expected)


def test_total_variation_is_scikit_images_image_by_image(images: Tensor) -> None:
    expected = [
        restoration.denoise_tv_chambolle(image, weight=0.2, channel_axis=-1)  # type: ignore[no-untyped-call]
        for image in images.permute(0, 2, 3, 1).numpy()
    ]
    denoised = total_variation(images, 0.2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(denoised, np.stack(expected))


def test_wavelet_shrinkage_is_scikit_images_clipped_image_by_image(images: Tensor) -> None:
    expected = [
        restoration.denoise_wavelet(image, sigma=0.1, convert2ycbcr=True, channel_axis=-1)
        for image in images.permute(0, 2, 3, 1).numpy()
    ]
    assert np.stack(expected).max() > 1
    denoised = wavelet(images, 0.1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(denoised, np.stack(expected).clip(0, 1))


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_gives_images_and_treats_each_alone(name: str, images: Tensor) -> None:
    filtered = FILTERS[name](images)
    assert (filtered.shape, filtered.dtype) == (images.shape, images.dtype)
    assert 0 <= float(filtered.min()) < float(filtered.max()) <= 1
    assert not torch.equal(filtered, images)
    assert torch.equal(FILTERS[name](images[[4, 1]]), filtered[[4, 1]])


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_leaves_a_flat_image_flat(name: str) -> None:
    flat = torch.full((1, 3, 16, 16), 51 / 255)
    filtered = FILTERS[name](flat)
    torch.testing.assert_close(filtered, filtered.mean().expand_as(filtered), atol=1e-5, rtol=0)
    assert (filtered - flat).abs().max() <= 0.5 / 7


def test_the_enlarged_side_is_in_proportion_to_the_papers() -> None:
    assert padded_side(299, 331) == 331
    assert padded_side(299, 330) == 330
    assert padded_side(32, 331) == 35


def test_a_padded_image_is_the_enlarged_one_on_black() -> None:
    ones = torch.ones(300, 3, 32, 32)
    generators = [torch.Generator().manual_seed(i) for i in range(300)]
    squares = resize_and_pad(ones, 331, generators)
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


@pytest.mark.parametrize("shape", [(32, 49), (49, 32), (1, 1)])
def test_a_rectangle_grows_by_one_share_and_stays_within_its_frame(shape: tuple[int, int]) -> None:
    generators = [torch.Generator().manual_seed(i) for i in range(300)]
    frames = resize_and_pad(torch.ones(300, 3, *shape), 331, generators)
    room = [padded_side(side, 331) - side for side in shape]
    assert frames.shape[2:] == tuple(side + more for side, more in zip(shape, room, strict=True))
    sizes = {tuple(int(frame[0].amax(axis).sum()) for axis in (1, 0)) for frame in frames}
    assert {wide - shape[1] for _, wide in sizes} == set(range(room[1]))
    for tall, wide in sizes:
        assert tall - shape[0] == (wide - shape[1]) * room[0] // room[1]
    assert (frames.sum((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("shape", [(32, 40), (40, 32)])
def test_a_random_label_of_a_rectangle_depends_on_it_alone(
    name: str, shape: tuple[int, int]
) -> None:
    classifier, images = Classifier("conv_net", 10), torch.rand(4, 3, *shape)
    whole = AVERAGES[name](classifier, images)
    torch.testing.assert_close(whole[[2, 1]], AVERAGES[name](classifier, images[[2, 1]]))


def test_crops_of_a_rectangle_come_from_all_of_it() -> None:
    image = torch.arange(4.0 * 8).view(1, 1, 4, 8).expand(300, 3, 4, 8)
    generators = [torch.Generator().manual_seed(i) for i in range(300)]
    crops = crop_and_rescale(image, generators, share=0.5)
    assert crops.shape == image.shape
    corners = {float(crop[0, 0, 0]) for crop in crops}
    assert corners == {8.0 * top + left for top in range(3) for left in range(5)}


def test_an_average_is_the_mean_probability_of_its_draws(images: Tensor) -> None:
    classifier = Classifier("conv_net", 10).freeze()
    averaged = average_over(classifier, images, add_noise, draws=4, salt="here")
    expected = torch.zeros(6, 10)
    for i in range(6):
        (own,) = image_generators(images[i : i + 1], "here")
        for _ in range(4):
            noise = torch.randn(3, 32, 32, generator=own)
            expected[i] += classifier((images[i] + 0.1 * noise).unsqueeze(0)).softmax(1)[0] / 4
    torch.testing.assert_close(averaged.exp(), expected)


def test_random_resizing_is_an_average_over_sizes_and_places(images: Tensor) -> None:
    classifier = Classifier("separable_net", 10).freeze()
    whole = random_resize_pad(classifier, images, draws=3)
    generators = image_generators(images, "random_resize_pad")
    answers = [classifier(resize_and_pad(images, 331, generators)) for _ in range(3)]
    torch.testing.assert_close(whole.exp(), torch.stack(answers).softmax(2).mean(0))


@pytest.mark.parametrize("name", AVERAGES)
def test_a_random_label_depends_on_the_image_alone(name: str, images: Tensor) -> None:
    classifier = Classifier("separable_net", 10)
    whole = AVERAGES[name](classifier, images)
    some = AVERAGES[name](classifier, images[[4, 1]])
    torch.testing.assert_close(whole[[4, 1]], some)
    torch.testing.assert_close(whole.exp().sum(1), torch.ones(6))
    other_draws = average_over(classifier, images, add_noise, salt="another")
    assert not torch.allclose(whole, other_draws)


@pytest.mark.parametrize("name", AVERAGES)
def test_a_model_comes_back_as_it_was(name: str, images: Tensor) -> None:
    model = nn.Sequential(Classifier("separable_net", 10), nn.Dropout(0.5)).train()
    first = AVERAGES[name](model, images[:2])
    assert torch.equal(AVERAGES[name](model, images[:2]), first), "the model was in training mode"
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_certain_average_has_no_infinite_logarithm() -> None:
    logits = torch.tensor([[300.0, 0.0]])
    averaged = average_over(lambda x: logits, torch.rand(1, 3, 4, 4), add_noise, draws=3)
    torch.testing.assert_close(averaged, torch.tensor([[0.0, -300.0]]))


def test_flips_mirror_about_every_other_image() -> None:
    image = torch.rand(1, 3, 4, 5)
    generators = [torch.Generator().manual_seed(i) for i in range(100)]
    flipped = random_flip(image.expand(100, -1, -1, -1), generators)
    mirrored = (flipped == image.flip(3)).all((1, 2, 3))
    assert torch.equal(mirrored, ~(flipped == image).all((1, 2, 3)))
    assert 35 <= int(mirrored.sum()) <= 65


def test_flips_are_drawn_before_sizes_and_places(images: Tensor) -> None:
    classifier = Classifier("separable_net", 10).freeze()
    generators = image_generators(images, "random_resize_pad")
    seen = resize_and_pad(random_flip(images, generators), 331, generators)
    torch.testing.assert_close(
        random_resize_pad(classifier, images, draws=1, flip=True), classifier(seen).log_softmax(1)
    )


def test_crops_come_from_everywhere_and_fill_the_image() -> None:
    image = torch.rand(1, 3, 4, 4)
    generators = [torch.Generator().manual_seed(i) for i in range(200)]
    crops = crop_and_rescale(image.expand(200, -1, -1, -1), generators, share=0.5)
    parts = [image[:, :, top : top + 2, left : left + 2] for top, left in np.ndindex(3, 3)]
    enlarged = nn.Upsample((4, 4), mode="bilinear")
    found = [int((crops == enlarged(part)).all((1, 2, 3)).sum()) for part in parts]
    assert min(found) > 0
    assert sum(found) == 200


def test_a_crop_of_everything_changes_nothing(images: Tensor) -> None:
    generators = image_generators(images, "crop")
    assert torch.equal(crop_and_rescale(images, generators, share=1), images)


def test_a_barrage_of_nothing_changes_nothing_and_each_draw_is_another(images: Tensor) -> None:
    generators = image_generators(images, "barrage")
    assert torch.equal(barrage(images, generators, count=0), images)
    first, second = (barrage(images, generators) for _ in range(2))
    assert (first != second).any(3).any(2).any(1).all()
    for batch in (first, second):
        assert 0 <= float(batch.min()) < float(batch.max()) <= 1


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
        Ensemble(members, weights=weights, fusion=fusion)
        for fusion in (Fusion.LOGITS, Fusion.PROBABILITIES, Fusion.LOSSES)
    )
    torch.testing.assert_close(logits(images), 0.25 * first + 0.75 * second)
    mean = 0.25 * first.softmax(1) + 0.75 * second.softmax(1)
    torch.testing.assert_close(probabilities(images).softmax(1), mean)
    torch.testing.assert_close(losses(images).softmax(1), mean)
    loss = nn.functional.cross_entropy
    torch.testing.assert_close(
        losses.loss_and_logits(images, labels, cross_entropy)[0],
        0.25 * loss(first, labels, reduction="none")
        + 0.75 * loss(second, labels, reduction="none"),
    )
    torch.testing.assert_close(
        probabilities.loss_and_logits(images, labels, cross_entropy)[0],
        -mean[range(6), labels].log(),
    )
    torch.testing.assert_close(
        logits.loss_and_logits(images, labels, cross_entropy)[0],
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
