"""`advcomp train` and `advcomp export`, as a user calls them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from advcomp.cli import main

Toy = Callable[..., Path]


def test_a_recipe_that_is_nested_too_deeply_is_told(tmp_path: Path) -> None:
    recipe = tmp_path / "train.toml"
    recipe.write_text("a = " + "[" * 100_000)
    trained = CliRunner().invoke(main, ["train", str(recipe)])
    assert trained.exit_code == 1
    assert "train.toml: expected TOML; got tables or arrays nested too deeply" in trained.stderr


@pytest.mark.slow
def test_train_then_export_give_a_submission(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = CliRunner().invoke(main, ["train", str(toy())])
    assert trained.exit_code == 0, trained.stderr
    checkpoint = Path("runs", "toy", "checkpoints", "step-00000004.pt")
    assert f"checkpoint: {checkpoint}\nnext: advcomp export {checkpoint} DIR\n" in trained.stdout
    for shown in (
        "network: ",
        "toy: [4/4] loss ",
        " images/s, ",
        " left",
        "v misclassified at epsilon",
    ):
        assert shown in trained.stderr
    exported = CliRunner().invoke(main, ["export", str(checkpoint), "entry"])
    assert exported.exit_code == 0, exported.stderr
    assert "next: advcomp validate entry" in exported.stdout
    names = {path.name for path in Path("entry").iterdir()}
    assert names == {
        *("metadata.json", "run_attack.sh", "run_attack.py", "train.toml", "SHA256SUMS"),
        *("network.safetensors", "surrogate.safetensors"),
    }
    onnx = CliRunner().invoke(main, ["export", str(checkpoint), "--format", "onnx", "of_onnx"])
    assert "next: advcomp validate --size 32x32 of_onnx" in onnx.stdout
    again = CliRunner().invoke(main, ["export", str(checkpoint), "entry"])
    assert again.exit_code == 1
    assert "entry: expected a new or an empty folder" in again.stderr
    Path("c0.safetensors").unlink()
    broken = CliRunner().invoke(main, ["export", str(checkpoint), "other"])
    assert broken.exit_code == 1
    assert "c0.safetensors: expected the surrogate that the hint was trained with" in broken.stderr
    assert not Path("other").exists()


def test_a_wrong_recipe_is_answered_without_a_traceback(toy: Toy) -> None:
    recipe = toy(("seed = 3", "sead = 3"))
    done = CliRunner().invoke(main, ["train", str(recipe)])
    assert done.exit_code == 1
    assert (
        done.stderr == f'advcomp: {recipe}:2: sead: unknown key; the nearest known one is "seed"\n'
    )


def test_help_names_the_flag_without_which_mpiexec_refuses_root() -> None:
    assert "mpiexec wants --allow-run-as-root" in CliRunner().invoke(main, ["train", "-h"]).output
