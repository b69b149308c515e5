"""The training loop: the same recipe gives the same module, also after a kill."""

import itertools
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support.no_waiting import NOWHERE, no_waiting, no_waiting_for_a_gpu
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.classifier_recipe import ClassifierRecipe, TrainingObjective
from advcomp.players.classifier.train_classifier import accuracy, as_tensors, train_classifier
from advcomp.players.classifiers import Classifier
from advcomp.players.fitting.fit import FitTask, LabelledBatch, TrainingLoss, fit
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.players.image.augmentation import moved
from advcomp.players.image.pixels import to_float
from advcomp.players.training_images import ImageSource, TrainingImages, training_images
from advcomp.training.checkpoint import path_of_step
from advcomp.training.draws import index_at, integer, key_of, module_draws, two_integers
from advcomp.training.loop import Trained, TrainingRun
from advcomp.training.progress import SilentObserver, StepReport
from advcomp.training.ranks import Ranks


@pytest.fixture(scope="module")
def few() -> TrainingImages:
    return training_images(ImageSource.DIGITS).part(slice(200))


def trained(recipe: ClassifierRecipe, images: TrainingImages, folder: Path) -> Classifier:
    classifier = train_classifier(recipe, images, folder=folder)
    assert classifier is not None
    return classifier


def weights(module: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in module.state_dict().values()])


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [TrainingObjective(), TrainingObjective(name="pgd", max_epsilon=32, steps=2, ramp_epochs=2)],
    ids=["plain", "pgd"],
)
def test_training_is_a_function_of_the_recipe(
    objective: TrainingObjective, few: TrainingImages, tmp_path: Path
) -> None:
    recipe = ClassifierRecipe(architecture="conv_net", seed=1, epochs=2, objective=objective)
    first = trained(recipe, few, tmp_path / "first")
    torch.rand(1)
    same = trained(recipe.model_copy(update={"workers": 1}), few, tmp_path / "same")
    other = trained(recipe.model_copy(update={"seed": 2}), few, tmp_path / "other")
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_learns(precision: str, few: TrainingImages, tmp_path: Path) -> None:
    recipe = ClassifierRecipe.model_validate(
        {"architecture": "residual_net", "seed": 1, "epochs": 25, "shift": 0}
        | {"precision": precision, "channels_last": precision == "bf16"}
    )
    assert accuracy(trained(recipe, few, tmp_path), *as_tensors(few)) > 0.9


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


class Watcher(SilentObserver):
    """Keeps what an observer is told; may stop the run as Ctrl-C does."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[StepReport] = []
        self._stop_after = stop_after

    def stepped(self, report: StepReport) -> None:
        self.steps.append(report)
        if len(self.steps) == self._stop_after:
            os.kill(os.getpid(), signal.SIGINT)


def fitted(
    images: TrainingImages,
    folder: Path,
    *,
    loss: TrainingLoss[Denoiser] = distance,
    recipe: FitRecipe = RECIPE,
    watcher: Watcher | None = None,
) -> tuple[Denoiser, Trained]:
    module = denoiser()
    observer = watcher or Watcher()
    return module, fit(
        module, loss, images, recipe, folder=folder, observer=observer, name="denoiser"
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_identical_result(few: TrainingImages, tmp_path: Path) -> None:
    unbroken, resumed = Watcher(), Watcher()
    expected, _ = fitted(few, tmp_path / "whole", watcher=unbroken)
    steps_left = 6  # in the second of four epochs, each of four steps

    def dying(module: Denoiser, batch: LabelledBatch) -> Tensor:
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            raise Killed
        return distance(module, batch)

    with pytest.raises(Killed):
        fitted(few, tmp_path / "killed", loss=dying)
    torch.rand(5)
    found, _ = fitted(few, tmp_path / "killed", watcher=resumed)
    assert torch.equal(weights(found), weights(expected))
    assert resumed.steps == unbroken.steps[4:]
    assert len(list((tmp_path / "killed" / "checkpoints").iterdir())) == 1


@pytest.mark.slow
def test_ctrl_c_keeps_the_step_that_was_done_and_goes_on_from_it(
    few: TrainingImages, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    expected, _ = fitted(few, tmp_path / "whole")
    stopped = Watcher(stop_after=6)
    _, trained = fitted(few, tmp_path / "stopped", watcher=stopped)
    assert trained.interrupted
    assert trained.checkpoint == path_of_step(tmp_path / "stopped", len(stopped.steps))
    assert 6 <= len(stopped.steps) <= 7
    assert trained.checkpoint.is_file()
    assert signal.getsignal(signal.SIGINT) is before
    found, trained = fitted(few, tmp_path / "stopped")
    assert not trained.interrupted
    assert torch.equal(weights(found), weights(expected))


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(few: TrainingImages, tmp_path: Path) -> None:
    expected, _ = fitted(few, tmp_path)
    watcher = Watcher()
    found, _ = fitted(few, tmp_path, watcher=watcher)
    assert torch.equal(weights(found), weights(expected))
    assert not watcher.steps
    assert not found.training


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done_before_the_step_ends(
    number: signal.Signals, few: TrainingImages, tmp_path: Path
) -> None:
    """Which it never does where a launcher kills its ranks at once."""
    expected, _ = fitted(few, tmp_path / "whole")
    folder, resumed, steps = tmp_path / "killed", Watcher(), itertools.count()

    def dying(module: Denoiser, batch: LabelledBatch) -> Tensor:
        if next(steps) == 6:
            os.kill(os.getpid(), number)
            deadline = time.monotonic() + 60
            while not path_of_step(folder, 6).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            raise Killed
        return distance(module, batch)

    with pytest.raises(Killed):
        fitted(few, folder, loss=dying)
    found, _ = fitted(few, folder, watcher=resumed)
    assert resumed.steps[0].step == 6
    assert torch.equal(weights(found), weights(expected))


@pytest.mark.slow
def test_a_checkpoint_of_another_recipe_is_refused(few: TrainingImages, tmp_path: Path) -> None:
    _, trained = fitted(few, tmp_path)
    path, other = trained.checkpoint, RECIPE.model_copy(update={"epochs": 9})
    with pytest.raises(InvalidConfig, match=r"expected a checkpoint of this recipe; .* epochs"):
        fitted(few, tmp_path, recipe=other)
    whole = path.read_bytes()
    for content in ({"weight": torch.zeros(1)}, [torch.zeros(1)]):
        torch.save(content, path)
        with pytest.raises(InvalidConfig, match=r"pt: expected a checkpoint of `advcomp train`"):
            fitted(few, tmp_path)
    path.write_bytes(whole[:1000])
    with pytest.raises(InvalidConfig, match=r"pt: expected a checkpoint"):
        fitted(few, tmp_path)


@pytest.mark.slow
def test_frozen_parameters_are_left_alone(few: TrainingImages, tmp_path: Path) -> None:
    module = denoiser()
    module.layers[0].requires_grad_(False)
    before = weights(module.layers[0])
    fit(module, distance, few, RECIPE, folder=tmp_path, observer=Watcher(), name="denoiser")
    assert torch.equal(weights(module.layers[0]), before)


def test_a_length_is_said_in_epochs_or_in_steps() -> None:
    assert FitRecipe(epochs=3, batch_size=64, warm_up_epochs=1).plan(200).steps == 10
    plan = FitRecipe(training_steps=7, batch_size=64, warm_up_steps=2).plan(200)
    assert (plan.steps, plan.warm_up_steps, plan.checkpoint_every) == (7, 2, 4)
    with pytest.raises(
        ValidationError, match="expected either training_steps or epochs; got both"
    ):
        FitRecipe(training_steps=7, epochs=3)


def test_shifts_move_whole_images_by_every_amount() -> None:
    images = torch.zeros(25, 3, 7, 7)
    images[:, :, 3, 3] = 1
    shifts = [(down, right) for down in range(5) for right in range(5)]
    seen = moved(images, 2, shifts, [False] * 25)
    assert seen.sum((1, 2, 3)).tolist() == [3] * 25
    places = [tuple(place) for place in seen[:, 0].nonzero()[:, 1:].tolist()]
    assert places == [(5 - down, 5 - right) for down, right in shifts]
    assert torch.equal(moved(images, 2, [(2, 2)] * 25, [False] * 25), images)


def test_edges_are_repeated_and_images_mirrored() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert moved(image, 1, [(0, 1)], [False])[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert torch.equal(moved(image, 1, [(1, 1)], [True]), image.flip(3))


def test_two_integers_are_drawn_as_one_after_the_other() -> None:
    """So recipes of before draw what they drew then."""
    for below in (1, 5, 224):
        for seed in range(50):
            alone, together = (torch.Generator().manual_seed(seed) for _ in range(2))
            expected = (integer(alone, below), integer(alone, below))
            assert two_integers(together, below) == expected
            assert integer(alone, 9) == integer(together, 9)


def test_what_a_module_draws_is_a_function_of_the_address() -> None:
    before = torch.get_rng_state()
    with module_draws(torch.device("cpu"), 1, "module", 2):
        drawn = nn.functional.dropout(torch.ones(50))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(key_of(1, "module", 2))
    assert torch.equal(drawn, nn.functional.dropout(torch.ones(50)))


def test_a_batch_is_drawn_by_position_and_not_by_rank(few: TrainingImages) -> None:
    """About half of the images are mirrored, every shift occurs, and each epoch has all images."""
    recipe = RECIPE.model_copy(update={"batch_size": 50, "shift": 1})

    def task(rank: int, size: int) -> FitTask[nn.Module]:
        return FitTask(
            module=nn.Identity(),
            training_loss=lambda module, batch: module(batch.clean),
            images=few,
            first_label=0,
            recipe=recipe,
            ranks=Ranks(rank=rank, size=size),
        )

    whole = [task(0, 1).batch(step) for step in range(8)]
    for count in (2, 3):
        for step, batch in enumerate(whole):
            parts = [task(rank, count).batch(step) for rank in range(count)]
            assert torch.equal(torch.cat([part.clean for part in parts]), batch.clean)
            drawn = [part.draws.normal(part.clean) for part in parts]
            assert torch.equal(torch.cat(drawn), task(0, 1).batch(step).draws.normal(batch.clean))
            assert len({part.draws.choice(10**9) for part in parts}) == 1
    for epoch in (whole[:4], whole[4:]):
        labels = torch.cat([batch.labels for batch in epoch])
        assert sorted(labels.tolist()) == sorted(few.labels.tolist())
        assert not torch.equal(labels, torch.tensor(few.labels))
    assert [batch.epoch for batch in whole] == [0] * 4 + [1] * 4
    clean = to_float(few.levels[[index_at(RECIPE.seed, 200, at) for at in range(200)]])
    seen = torch.cat([batch.clean for batch in whole[:4]])
    mirrored, shifts = 0, set()
    for one, original in zip(seen, clean, strict=True):
        ways = {
            (down, right, mirror)
            for down in range(3)
            for right in range(3)
            for mirror in (False, True)
            if torch.equal(moved(original[None], 1, [(down, right)], [mirror])[0], one)
        }
        assert ways
        mirrored += all(mirror for *_, mirror in ways)
        shifts |= {way[:2] for way in ways}
    assert 70 < mirrored < 130
    assert len(shifts) == 9


@pytest.mark.parametrize("n", [0, 1, 7, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_image_is_one_ranks_share(n: int, count: int) -> None:
    shares = [np.arange(n)[Ranks(rank=rank, size=count).share(n)] for rank in range(count)]
    assert np.concatenate(shares).tolist() == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_loss_of_a_step_makes_the_host_wait_for_nothing(few: TrainingImages) -> None:
    task = FitTask(
        module=denoiser().to(NOWHERE),
        training_loss=distance,
        images=few,
        first_label=0,
        recipe=RECIPE,
        ranks=Ranks(device=NOWHERE),
    )
    batch = task.batch(0)
    with no_waiting():
        loss = task.loss(batch.to(NOWHERE, torch.contiguous_format), 0)
        loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_step_on_a_gpu_makes_the_host_wait_for_nothing(few: TrainingImages) -> None:
    ranks = Ranks(device=torch.device("cuda"))
    task = FitTask(
        module=denoiser().to(ranks.device),
        training_loss=distance,
        images=few,
        first_label=0,
        recipe=RECIPE,
        ranks=ranks,
    )
    run = TrainingRun(task, RECIPE.plan(len(few)), ranks)
    run.step()
    batch = task.batch(1).pin_memory()
    with no_waiting_for_a_gpu():
        run.step(batch)
    assert len(run.read()) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_starts_as_the_cpu_does(few: TrainingImages, tmp_path: Path) -> None:
    """The same draws and the same losses, until rounding errors have grown."""
    told = {device: Watcher() for device in ("cpu", "cuda")}
    for device, watcher in told.items():
        recipe = RECIPE.model_copy(update={"epochs": 1, "learning_rate": 1e-6})
        module = denoiser()
        module.layers[2] = nn.Identity()  # dropout draws on the device
        fit(
            module,
            distance,
            few,
            recipe,
            folder=tmp_path / device,
            observer=watcher,
            name="denoiser",
            ranks=Ranks(device=torch.device(device)),
        )
    for cpu, cuda in zip(told["cpu"].steps, told["cuda"].steps, strict=True):
        assert cpu.loss == pytest.approx(cuda.loss, rel=1e-3)
