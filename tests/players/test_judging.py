"""What judges a module while it is fitted: on images that train nothing, without changing it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.players.classifier.answers import Model
from advcomp.players.fitting.fit import LabelledBatch, fit
from advcomp.players.fitting.fit_recipe import FitRecipe
from advcomp.players.fitting.judging import Judging, ValidationTable, split
from advcomp.players.training_images import TrainingImages
from advcomp.training.progress import EvaluationReport, RateOf, SilentObserver
from advcomp.training.ranks import Ranks

LABELS = np.array([1, 2, 1, 2, 1, 2, 1, 1, 2, 1])


def images() -> TrainingImages:
    """Dark ones are called 1, bright ones 2."""
    levels = np.where(LABELS == 1, 40, 215).astype(np.uint8)[:, None, None, None]
    return TrainingImages(
        levels=np.broadcast_to(levels, (10, 4, 4, 3)).copy(), labels=LABELS, classes=(1, 2)
    )


class Brightness(nn.Module):
    """Calls bright images the second class; in training it is always wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        bright = (x.mean((1, 2, 3)) - 0.5) * self.scale
        return torch.stack([-bright, bright], 1) * (-1 if self.training else 1)


def brightened(_: Model, clean: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Only what is of class 0, and by so much."""
    return (clean + eps * (labels == 0)[:, None, None, None]).clamp(0, 1)


def judging(**more: object) -> Judging[Brightness]:
    table = ValidationTable.model_validate({"images": 10, "max_epsilons": [0, 8, 200], **more})
    return Judging(
        name="it", images=images(), table=table, answering=lambda it: it, attack=brightened
    )


def test_the_share_that_is_right_is_told_at_each_budget() -> None:
    report = judging().report(Brightness().eval(), 7, 2, Ranks(), torch.float64)
    assert (report.step, report.epoch, report.of) == (7, 2, RateOf.RIGHT)
    assert report.rates == {("it", 0): 1.0, ("it", 8): 1.0, ("it", 200): 0.4}
    assert report.clean_rates == {"it": 1.0}


class Heard(SilentObserver):
    def __init__(self) -> None:
        self.reports: list[EvaluationReport] = []

    def evaluated(self, report: EvaluationReport) -> None:
        self.reports.append(report)


def loss(module: Brightness, batch: LabelledBatch) -> Tensor:
    assert module.training
    assert module.scale.requires_grad
    return nn.functional.cross_entropy(module(batch.clean), batch.labels, reduction="none")


def test_a_judge_comes_every_few_epochs_and_changes_nothing(tmp_path: Path) -> None:
    heard, scales = Heard(), []
    recipe = FitRecipe(epochs=5, batch_size=4, learning_rate=0.1)
    for judge in (None, judging(every_epochs=2)):
        module = Brightness()
        folder = tmp_path / ("alone" if judge is None else "judged")
        fit(
            module,
            loss,
            images(),
            recipe,
            folder=folder,
            observer=heard,
            name="it",
            first_label=1,
            judging=judge,
        )
        scales.append(float(module.scale.detach()))
    assert scales[0] == scales[1] != 1
    assert [(each.step, each.epoch) for each in heard.reports] == [(6, 2), (12, 4), (13, 5)]
    assert {each.rates["it", 0] for each in heard.reports} == {1.0}


def test_who_judges_does_not_train() -> None:
    table = ValidationTable(images=3)
    training, judges = split(images(), table)
    assert judges is not None
    assert training.labels.tolist() == LABELS[:7].tolist()
    assert judges.labels.tolist() == LABELS[7:].tolist()
    assert split(images(), None)[1] is None
    with pytest.raises(InvalidConfig, match=r"\[validation\] images: expected fewer than .* 10"):
        split(images(), ValidationTable(images=10))
