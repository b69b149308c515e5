"""benchmarks/attack_classes.py: who is ahead of whom, and what is met only once."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from advcomp.players.attack.objectives import soft_labels
from advcomp.players.attacks import momentum_iterative_fgsm
from advcomp.players.ensemble import Ensemble, Fusion

ROOT = Path(__file__).parents[2]
BENCHMARK: dict[str, Any] = runpy.run_path(str(ROOT / "benchmarks" / "attack_classes.py"))
ROBUST = np.array([False, False, True])


def hits(*counts: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Of 100 images the first so many, for each classifier."""
    return np.arange(100) < np.array(counts)[:, None]


def test_gaps_are_means_over_plain_and_robust_ones_and_the_least_of_all() -> None:
    found = {(8, "ours"): hits(80, 60, 50), (8, "theirs"): hits(70, 60, 40)}
    rows = {row["attack"]: row for row in BENCHMARK["gaps"](found, ["ours"], ROBUST)}
    row = rows["theirs"]
    assert (row["plain %"], row["robust %"], row["worst %"]) == ("65.0", "40.0", "40.0")
    ahead = [row[name].split()[0] for name in ("ahead, plain", "robust", "mean", "worst case")]
    assert ahead == ["+5.0", "+10.0", "+7.5", "+10.0"]
    # 10 of 100 images are half a point each: the deviation of one is 15.1 points, with n - 1.
    assert row["ahead, plain"] == "+5.0 [2.0, 8.0]"
    assert rows["ours"]["mean"] == "+0.0 [0.0, 0.0]"


def test_the_worst_case_is_that_of_each_attack() -> None:
    """Ours is weak where theirs is strong: what counts is 30 against 20."""
    ahead = BENCHMARK["of_the_worst"](hits(30, 90, 90), hits(90, 90, 20))
    assert ahead.startswith("+10.0 [")


class Bright(nn.Module):
    """Answers 1 where an image is bright."""

    def forward(self, x: Tensor) -> Tensor:
        bright = (x.mean((1, 2, 3)) > 0.5).long()
        return nn.functional.one_hot(bright, 2).float()


def test_images_are_made_once_and_no_classifier_is_met_twice(tmp_path: Path) -> None:
    x, labels = torch.full((3, 3, 2, 2), 120 / 255), torch.zeros(3, dtype=torch.long)
    asked = []

    def attack(clean: Tensor, eps: float) -> Tensor:
        asked.append(eps)
        return clean + eps

    file = tmp_path / "eps-08 brighter.npz"
    met = BENCHMARK["met"]
    assert met(file, attack, x, labels, 8, {"one": Bright()}).tolist() == [[True] * 3]
    both = met(file, attack, x, labels, 8, {"one": nn.Identity(), "two": Bright()})
    assert both.tolist() == [[True] * 3] * 2
    assert asked == [pytest.approx(8 / 255)]


def test_an_image_beyond_its_budget_is_no_result() -> None:
    with pytest.raises(AssertionError):
        BENCHMARK["attacked"](lambda clean, eps: clean + 2 * eps, torch.zeros(1, 3, 2, 2), 8)


def test_attacks_of_the_library_are_played_as_entries_and_apart() -> None:
    """Once as the file says, once more from the same surrogates, each gradient counting alike."""
    settings = [ROOT / "tournament" / "cifar10" / "attacks" / "mi_fgsm.toml"]
    digits = ROOT / "tournament" / "digits" / "weights"
    surrogates = [digits / f"{name}_a.safetensors" for name in ("conv_net", "residual_net")]
    of_library = BENCHMARK["of_library"]
    assert dict(of_library(settings, surrogates, Path(), apart=False)).keys() == {"mi_fgsm"}
    played = dict(of_library(settings, surrogates, Path(), apart=True))
    assert played.keys() == {"mi_fgsm", "mi_fgsm_gradients"}
    fused, apart = played["mi_fgsm"], played["mi_fgsm_gradients"]
    assert [*apart.surrogates.members] == [*fused.surrogates.members]
    x = torch.rand(2, 3, 32, 32)
    for one, fusion, labels in (
        (fused, Fusion.LOGITS, fused.surrogates(x).argmax(1)),
        (apart, Fusion.GRADIENTS, soft_labels(fused.surrogates, x)),
    ):
        members = Ensemble([*fused.surrogates.members], fusion=fusion)
        expected = momentum_iterative_fgsm(members, x, labels, eps=8 / 255)
        torch.testing.assert_close(one.untargeted(x, 8 / 255), expected)


def test_tensors_are_found_by_the_name_of_the_settings(tmp_path: Path) -> None:
    pool = {"pool": torch.rand(4, 3, 32, 32), "pool_labels": torch.tensor([0, 1, 0, 1])}
    save_file(pool, tmp_path / "admix.safetensors")
    settings = [ROOT / "tournament" / "cifar10" / "attacks" / "admix.toml"]
    surrogate = ROOT / "tournament" / "digits" / "weights" / "conv_net_a.safetensors"
    (found,) = dict(BENCHMARK["of_library"](settings, [surrogate], tmp_path, apart=False)).values()
    torch.testing.assert_close(found.attack.keywords["pool"], pool["pool"])
