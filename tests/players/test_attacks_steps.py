"""The steps of each attack, against the same attack written out by hand as its paper puts it."""

import inspect
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from support.attack_cases import EPS, UNTARGETED_ONLY, images, network
from support.slow_attacks import SLOW, Problem
from support.slow_attacks import checkpoints as slow_checkpoints
from torch import Tensor, nn

from advcomp.players.attack.autopgd import Memory, autopgd, checkpoints, difference_of_logits_ratio
from advcomp.players.attack.objectives import margin
from advcomp.players.attack_catalogue import ATTACKS, settings_of
from advcomp.players.attacks import pgd

EVERY = [name for name in ATTACKS if name != "universal"]

FEW: dict[str, float] = {"steps": 4, "samples": 2, "copies": 2, "mixtures": 2, "targets": 1}
"""What the quick cases have instead of the papers' numbers."""

OTHER: dict[str, float] = {
    "steps": 3,
    "step_size": EPS / 3,
    "accumulate": True,
    "decay": 0.375,
    "nesterov": True,
    "seed": 7,
    "restarts": 8,
    "probability": 1.0,
    "size": 9,
    "copies": 3,
    "mixtures": 3,
    "strength": 0.5,
    "samples": 3,
    "beta": 0.5,
    "amplification": 2.0,
    "spread": 0.125,
    "sigma": 0.25,
    "reach": 0.75,
    "balance": 0.125,
    "blocks": 3,
    "degrees": 75.0,
    "targets": 9,
}
"""For every number that an attack takes another one than its default, and than that of `FEW`."""

AUTOPGD = [name for name in EVERY if name.startswith("autopgd")]
OWN_FEW: dict[str, dict[str, float]] = {
    # A power of two: steps over it must be exact, since signs of sums depend on it.
    "pi_fgsm": {"amplification": 8.0},
    **{name: {"steps": 9} for name in AUTOPGD},
}


def numbers(name: str) -> list[str]:
    """What a settings file may say about an attack, but for tensors."""
    tensors = (Tensor, Tensor | None)
    return [n for n, p in settings_of(ATTACKS[name]).items() if p.annotation not in tensors]


def quick(name: str) -> dict[str, float]:
    return {n: value for n, value in FEW.items() if n in numbers(name)} | OWN_FEW.get(name, {})


@pytest.fixture
def problem() -> Problem:
    """One image, away from what it is taken for; batches are another test's."""
    classifier, clean = network().double(), images(1, 32).double()
    labels = classifier(clean).argmax(1)
    return Problem(classifier=classifier, clean=clean, labels=labels, eps=EPS)


def both(name: str, problem: Problem, **settings: Any) -> tuple[Tensor, Tensor]:
    """What an attack finds, and what the slow one does."""
    if name == "admix":
        settings["pool"] = torch.linspace(0, 1, 6 * 3 * 32 * 32).double().view(6, 3, 32, 32)
        settings["pool_labels"] = (problem.label + torch.tensor([0, 1, 0, 2, 3, 0])) % 10
    targeted = {} if name in UNTARGETED_ONLY else {"targeted": problem.targeted}
    found = ATTACKS[name](
        problem.classifier,
        problem.clean,
        problem.labels,
        eps=problem.eps,
        **targeted,
        **settings,
    )
    return found, SLOW[name](problem, **settings)


def assert_same(found: Tensor, expected: Tensor) -> None:
    """But for the rounding of sums: a step that goes elsewhere is a thousandth at least."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_an_attack_is_its_papers_with_the_papers_settings(name: str, problem: Problem) -> None:
    # Not AutoPGD's 100 steps, in which roundings grow.
    assert_same(*both(name, problem, **{"steps": 30} if name in AUTOPGD else {}))


def test_every_attack_that_is_written_out_plainly_is_in_the_catalogue() -> None:
    assert set(SLOW) == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_given_is_as_in_the_paper(name: str) -> None:
    papers = inspect.signature(SLOW[name]).parameters
    given = settings_of(ATTACKS[name])
    named = [number for number in numbers(name) if number in papers]
    assert [given[n].default for n in named] == [papers[n].default for n in named]


@pytest.mark.parametrize(("name", "number"), [(a, n) for a in EVERY for n in numbers(a)])
def test_every_number_means_what_it_means_in_the_paper(
    name: str, number: str, problem: Problem
) -> None:
    settings, told_apart = quick(name), []
    for labels in (problem.labels, torch.tensor([9])):
        one = replace(problem, labels=labels)
        usual, _ = both(name, one, **settings)
        found, expected = both(name, one, **settings | {number: OTHER[number]})
        assert_same(found, expected)
        told_apart.append(not torch.equal(found, usual))
    assert any(told_apart), "the case finds the same with the usual number"


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_all_numbers_together_in_both_directions(
    name: str, targeted: bool, problem: Problem
) -> None:
    if targeted and name in UNTARGETED_ONLY:
        pytest.skip("has no targeted form")
    labels = (problem.labels + targeted) % 10
    aimed = replace(problem, labels=labels, eps=problem.eps / 2, targeted=targeted)
    settings = {number: OTHER[number] for number in numbers(name)}
    assert_same(*both(name, aimed, **settings))


@pytest.mark.parametrize("name", EVERY)
def test_soft_labels_mean_how_likely_an_answer_is_right(name: str, problem: Problem) -> None:
    """Of two likely classes, in every attack; but `autopgd_targets` takes the likelier."""
    q = torch.full((1, 10), 0.2 / 8).double()
    q[0, problem.labels[0]], q[0, (problem.labels[0] + 1) % 10] = 0.45, 0.35
    settings = quick(name) | ({"accumulate": True} if "accumulate" in numbers(name) else {})
    soft = replace(problem, labels=q)
    assert_same(*both(name, soft, **settings))


@pytest.mark.parametrize("levels", [7, 8])
def test_tsail_fits_its_steps_to_the_budget(levels: int, problem: Problem) -> None:
    labels = (problem.labels + 1) % 10
    small = replace(problem, labels=labels, eps=levels / 255, targeted=True)
    assert_same(*both("tsail", small))


def test_each_image_keeps_its_own_best_restart() -> None:
    classifier = network().double()
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
        assert checkpoints(steps) == slow_checkpoints(steps)


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
