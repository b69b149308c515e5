"""The training loop: the same recipe gives the same module, also after a kill."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.classifier_recipe import ClassifierRecipe, TrainingObjective
from advcomp.players.classifier.train_classifier import accuracy, as_tensors, train_classifier
from advcomp.players.datasets import LabelledImages, Part, digits
from advcomp.players.fitting.fit import (
    BatchDraws,
    EpochReport,
    LabelledBatch,
    augment,
    fit,
)
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.training.ranks import Ranks
from advcomp.training.schedule import learning_rate


@pytest.fixture(scope="module")
def few() -> LabelledImages:
    images = digits(Part.TRAINING)
    return LabelledImages(
        image_ids=images.image_ids[:200],
        levels=images.levels[:200],
        labels=images.labels[:200],
        classes=10,
    )


def weights(module: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in module.state_dict().values()])


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [TrainingObjective(), TrainingObjective(name="pgd", max_epsilon=32, steps=2, ramp_epochs=2)],
    ids=["plain", "pgd"],
)
def test_training_is_a_function_of_the_recipe(
    objective: TrainingObjective, few: LabelledImages
) -> None:
    recipe = ClassifierRecipe(architecture="conv_net", seed=1, epochs=2, objective=objective)
    first = train_classifier(recipe, few)
    torch.rand(1)
    same = train_classifier(recipe, few)
    other = train_classifier(recipe.model_copy(update={"seed": 2}), few)
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_learns(precision: str, few: LabelledImages) -> None:
    recipe = ClassifierRecipe.model_validate(
        {"architecture": "residual_net", "seed": 1, "epochs": 25, "shift": 0}
        | {"precision": precision, "channels_last": precision == "bf16"}
    )
    assert accuracy(train_classifier(recipe, few), *as_tensors(few)) > 0.9


class Denoiser(nn.Module):
    """Any module can be fitted; this one draws numbers itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def distance(denoiser: Denoiser, batch: LabelledBatch) -> Tensor:
    noisy = batch.clean + 0.1 * batch.draws.normal(batch.clean)
    error: Tensor = denoiser(noisy) - batch.clean
    return error.square().mean((1, 2, 3))


def denoiser() -> Denoiser:
    torch.manual_seed(3)
    return Denoiser()


RECIPE = FitRecipe(seed=4, epochs=4, batch_size=64, flip=True)


class Killed(Exception):
    """Stops a run between two steps."""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_identical_result(few: LabelledImages, tmp_path: Path) -> None:
    unbroken: list[EpochReport] = []
    expected = fit(denoiser(), distance, few, RECIPE, report=unbroken.append)
    steps_left = 6  # in the second of four epochs, each of four steps

    def dying(module: Denoiser, batch: LabelledBatch) -> Tensor:
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            raise Killed
        return distance(module, batch)

    checkpoint = tmp_path / "new" / "denoiser.pt"
    with pytest.raises(Killed):
        fit(denoiser(), dying, few, RECIPE, checkpoint=checkpoint)
    resumed: list[EpochReport] = []
    torch.rand(5)
    found = fit(denoiser(), distance, few, RECIPE, checkpoint=checkpoint, report=resumed.append)
    assert torch.equal(weights(found), weights(expected))
    assert [epoch.number for epoch in resumed] == [2, 3, 4]
    assert [epoch.loss for epoch in resumed] == [epoch.loss for epoch in unbroken[1:]]
    assert [path.name for path in checkpoint.parent.iterdir()] == ["denoiser.pt"]


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(few: LabelledImages, tmp_path: Path) -> None:
    expected = fit(denoiser(), distance, few, RECIPE, checkpoint=tmp_path / "d.pt")
    told: list[EpochReport] = []
    found = fit(
        denoiser(), distance, few, RECIPE, checkpoint=tmp_path / "d.pt", report=told.append
    )
    assert torch.equal(weights(found), weights(expected))
    assert not told
    assert not found.training


@pytest.mark.slow
def test_a_checkpoint_of_another_recipe_is_refused(few: LabelledImages, tmp_path: Path) -> None:
    path = tmp_path / "d.pt"
    fit(denoiser(), distance, few, RECIPE, checkpoint=path)
    other = RECIPE.model_copy(update={"epochs": 9})
    with pytest.raises(InvalidConfig, match=r"d\.pt: expected a checkpoint of this recipe"):
        fit(denoiser(), distance, few, other, checkpoint=path)
    whole = path.read_bytes()
    for content in ({"weight": torch.zeros(1)}, [torch.zeros(1)]):
        torch.save(content, path)
        with pytest.raises(InvalidConfig, match=r"d\.pt: expected a checkpoint of training"):
            fit(denoiser(), distance, few, RECIPE, checkpoint=path)
    path.write_bytes(whole[:1000])
    with pytest.raises(InvalidConfig, match=r"d\.pt: expected a checkpoint"):
        fit(denoiser(), distance, few, RECIPE, checkpoint=path)


@pytest.mark.slow
def test_frozen_parameters_are_left_alone(few: LabelledImages) -> None:
    module = denoiser()
    module.layers[0].requires_grad_(False)
    before = weights(module.layers[0])
    fit(module, distance, few, RECIPE)
    assert torch.equal(weights(module.layers[0]), before)


def test_the_learning_rate_warms_up_under_a_cosine() -> None:
    rates = [learning_rate(1.0, i, 8, warm_up=3, falls_from_the_start=True) for i in range(8)]
    cosine = [(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]
    warm_up = [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1]
    assert rates == pytest.approx([a * b for a, b in zip(cosine, warm_up, strict=True)])
    assert learning_rate(0.5, 0, 60) == 0.5


def test_shifts_move_whole_images_by_every_amount() -> None:
    images = torch.zeros(200, 3, 7, 7)
    images[:, :, 3, 3] = 1
    draws = BatchDraws(generator=torch.Generator().manual_seed(0), n=200, share=slice(0, 200))
    moved = augment(images, FitRecipe(shift=2), draws)
    assert moved.sum((1, 2, 3)).tolist() == [3] * 200
    assert {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()} == {
        (row, column) for row in range(1, 6) for column in range(1, 6)
    }


def test_about_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(1, 3, 5, 5).expand(400, -1, -1, -1)
    draws = BatchDraws(generator=torch.Generator().manual_seed(0), n=400, share=slice(0, 400))
    seen = augment(images, FitRecipe(shift=0, flip=True), draws)
    mirrored = (seen == images.flip(3)).all(dim=(1, 2, 3))
    assert ((seen == images).all(dim=(1, 2, 3)) ^ mirrored).all()
    assert 160 < mirrored.sum() < 240


@pytest.mark.parametrize("n", [0, 1, 7, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_image_is_one_ranks_share(n: int, count: int) -> None:
    shares = [np.arange(n)[Ranks(rank=rank, size=count).share(n)] for rank in range(count)]
    assert np.concatenate(shares).tolist() == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("n", "count"), [*product((1, 7), (2, 3))])
def test_ranks_draw_together_what_one_process_draws(n: int, count: int) -> None:
    def drawn(share: slice) -> list[Tensor]:
        draws = BatchDraws(generator=torch.Generator().manual_seed(0), n=n, share=share)
        like = torch.empty(share.stop - share.start, 3, 2, 2)
        return [
            draws.integers(9, 2),
            draws.uniform(like, -1, 1).flatten(1).T,
            draws.normal(like).flatten(1).T,
            torch.full((1, share.stop - share.start), draws.choice(1000)),
        ]

    parts = [drawn(Ranks(rank=rank, size=count).share(n)) for rank in range(count)]
    whole = drawn(slice(0, n))
    for i, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[i] for part in parts], dim=1), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_starts_as_the_cpu_does(few: LabelledImages) -> None:
    """The same draws and the same losses, until rounding errors have grown."""
    told: list[list[EpochReport]] = [[], []]
    for device, epochs in zip(("cpu", "cuda"), told, strict=True):
        ranks = Ranks(device=torch.device(device))
        recipe = RECIPE.model_copy(update={"epochs": 1, "learning_rate": 1e-6})
        module = denoiser()
        module.layers[2] = nn.Identity()  # dropout draws on the device
        fit(module, distance, few, recipe, ranks=ranks, report=epochs.append)
    assert told[0][0].loss == pytest.approx(told[1][0].loss, rel=1e-3)
