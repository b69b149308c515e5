"""What a network is measured beside, on images and classifiers that train nothing."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from advcomp.attacknet.data import load_images
from advcomp.attacknet.network.generator import rounded_to_levels
from advcomp.attacknet.recipe import load_network_recipe
from advcomp.attacknet.rivals import FUSED_IN_GRADIENTS
from advcomp.attacknet.task import attack_network_task
from advcomp.players.attack.objectives import soft_labels
from advcomp.players.attack_catalogue import ATTACKS
from advcomp.players.classifiers import load_classifier
from advcomp.players.ensemble import Ensemble, Fusion
from advcomp.players.image.pixels import to_float
from advcomp.rules.threat import eps_of
from advcomp.terminal.training import Display
from advcomp.training.progress import HINT_ALONE
from advcomp.training.ranks import Ranks

Toy = Callable[..., Path]


RIVALS = ["fgsm", "da_fgsm", FUSED_IN_GRADIENTS, HINT_ALONE]


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_is_the_attack_that_everybody_has(name: str, toy: Toy, tmp_path: Path) -> None:
    recipe = load_network_recipe(toy())
    images, held_out = load_images(recipe.data)
    task = attack_network_task(recipe, Ranks(), images, held_out)
    report = task.evaluate(task.module.state_dict(), 0, tmp_path)
    assert {rival for rival, _, _ in report.gaps} == set(RIVALS)
    targets = [load_classifier(tmp_path / f"c{i}.safetensors").double() for i in range(4)]
    surrogates = Ensemble(
        targets[:1] if name == HINT_ALONE else targets,
        fusion=Fusion.GRADIENTS if name == FUSED_IN_GRADIENTS else Fusion.LOGITS,
    ).double()
    judge = load_classifier(tmp_path / "v.safetensors").double()
    clean = to_float(held_out.levels[:]).double()
    soft = soft_labels(surrogates, clean)
    attack = ATTACKS["fgsm" if name == HINT_ALONE else name.partition(",")[0]]
    seen = soft if attack is ATTACKS["da_fgsm"] else soft.argmax(1)
    for level in recipe.threat.max_epsilons:
        x = rounded_to_levels(attack(surrogates, clean, seen, eps=eps_of(level)))
        theirs = (judge(x).argmax(1) != torch.tensor(held_out.labels)).double().numpy()
        gap = report.gaps[name, "v", level]
        assert gap.rate == pytest.approx(theirs.mean())
        assert gap.gap == pytest.approx(report.rates["v", level] - theirs.mean())
        assert gap.interval == pytest.approx((gap.gap - gap.half_width, gap.gap + gap.half_width))


def test_a_network_that_adds_nothing_is_told(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that changes nothing cannot be ahead of its hint."""
    recipe = load_network_recipe(toy())
    images, held_out = load_images(recipe.data)
    task = attack_network_task(recipe, Ranks(), images, held_out)
    still = {name: torch.zeros_like(value) for name, value in task.module.state_dict().items()}
    report = task.evaluate(still, 0, tmp_path)
    assert report.rates == {("v", level): report.clean_rates["v"] for level in (16, 48)}
    gap = report.gaps[HINT_ALONE, "v", 48]
    assert gap.gap <= 0
    assert np.isfinite(gap.half_width)
    Display(sys.stderr).evaluated(report)
    told = capsys.readouterr().err
    assert "v: hint alone, and the network ahead by [95 %] at epsilon 16: " in told
    assert "nowhere ahead of its hint alone: it adds nothing" in told
