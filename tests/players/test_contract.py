"""argv, folders, PNG and CSV, as a submission's program meets them."""

import gc
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.freed_memory import CHURN, PAGES_OF_A_ROUND
from torch import Tensor

from advcomp.errors import InvalidDataset
from advcomp.players.contract import attack_main, defense_main, targeted_attack_main
from advcomp.players.image.pixels import project_to_ball, quantise, to_float

Levels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@pytest.fixture
def clean() -> Levels:
    return np.random.default_rng(0).integers(256, size=(7, 5, 6, 3), dtype=np.uint8)


@pytest.fixture
def inputs(tmp_path: Path, clean: Levels) -> Path:
    """Images written in another order than that of their names, and a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in (3, 0, 6, 1, 5, 2, 4):
        Image.fromarray(clean[i]).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def read(folder: Path) -> Levels:
    return np.stack([np.array(Image.open(folder / f"{i}.png")) for i in range(7)])


def call(*arguments: str | Path | int) -> list[str]:
    return [str(argument) for argument in arguments]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_an_attack_gets_the_images_in_the_order_of_their_names_and_eps(
    inputs: Path, output: Path, clean: Levels, batch_size: int
) -> None:
    seen: list[Tensor] = []

    def attack(images: Tensor, eps: float) -> Tensor:
        assert images.shape == (batch_size, 3, 5, 6)
        seen.append(images)
        return images + eps

    attack_main(attack, call(inputs, output, 16), batch_size=batch_size)
    assert torch.equal(torch.cat(seen)[:7], to_float(clean))
    assert len(list(output.iterdir())) == 7
    np.testing.assert_array_equal(read(output), np.minimum(clean.astype(int) + 16, 255))


def test_only_a_program_of_its_own_spares_what_it_has_loaded_the_collector(
    inputs: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To go through PyTorch's objects at its end takes a program a third of a second."""
    spared = gc.get_freeze_count()
    attack_main(lambda images, eps: images, call(inputs, output, 16), batch_size=7)
    assert gc.get_freeze_count() == spared
    monkeypatch.setattr(sys, "argv", ["run_attack.py", *call(inputs, output, 16)])
    try:
        attack_main(lambda images, eps: images, batch_size=7)
        assert gc.get_freeze_count() > spared + 100_000
    finally:
        gc.unfreeze()


PROGRAM = f"""
import sys
from advcomp.players.contract import attack_main
{CHURN}
def attack(images, eps):
    print(pages_of_churning())
    return images

attack_main(attack, {{argv}}, batch_size=7)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_only_a_program_of_its_own_keeps_the_memory_that_it_frees(
    inputs: Path, output: Path
) -> None:
    """Else the kernel clears the pages of large blocks whenever they are asked for again."""
    pages = {}
    for argv in ("None", "sys.argv[1:]"):
        words = [sys.executable, "-c", PROGRAM.format(argv=argv), *call(inputs, output, 16)]
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        pages[argv] = int(said.stdout)
    assert pages["None"] < PAGES_OF_A_ROUND
    assert pages["sys.argv[1:]"] > 10 * PAGES_OF_A_ROUND


def test_a_targeted_attack_gets_the_target_of_each_image(inputs: Path, output: Path) -> None:
    targets = {f"{i}.png": 10 * i for i in range(7)}
    lines = [f"{name},{target}\n" for name, target in reversed(targets.items())]
    (inputs / "target_class.csv").write_text("".join(lines))
    targeted_attack_main(
        lambda images, labels, eps: torch.ones_like(images) * labels.view(-1, 1, 1, 1) / 255,
        call(inputs, output, 16),
        batch_size=3,
    )
    assert [int(levels.max()) for levels in read(output)] == list(targets.values())


def test_every_image_without_a_target_is_named(inputs: Path, output: Path) -> None:
    (inputs / "target_class.csv").write_text("0.png,1\n2.png,1\n3.png,1\n4.png,1\n5.png,1\n")
    with pytest.raises(InvalidDataset) as caught:
        targeted_attack_main(lambda images, labels, eps: images, call(inputs, output, 16))
    assert [problem.split(" got ")[0][-9:-1] for problem in caught.value.problems] == [
        "or 1.png",
        "or 6.png",
    ]


def test_a_defense_writes_one_line_for_each_image(inputs: Path, tmp_path: Path) -> None:
    defense_main(
        lambda images: (images[:, 0, 0, 0] * 255).round().long(),
        call(inputs, tmp_path / "result.csv"),
        batch_size=3,
    )
    first_pixels = [int(levels[0, 0, 0]) for levels in read(inputs)]
    expected = "".join(f"{i}.png,{label}\n" for i, label in enumerate(first_pixels))
    assert (tmp_path / "result.csv").read_text() == expected


def test_what_was_done_before_a_crash_is_on_disk(inputs: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.csv"
    lines: list[int] = []

    def defense(images: Tensor) -> Tensor:
        lines.append(len(result.read_text().splitlines()))
        return torch.zeros(len(images), dtype=torch.int64)

    defense_main(defense, call(inputs, result), batch_size=3)
    assert lines == [0, 3, 6]


def test_wrong_arguments_print_the_usage(inputs: Path) -> None:
    with pytest.raises(SystemExit, match="INPUT_IMAGES OUTPUT_IMAGES MAX_EPSILON"):
        attack_main(lambda images, eps: images, call(inputs))


def test_every_level_survives_the_way_to_float_and_back_and_half_levels_are_rounded() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    x = to_float(levels)
    for nudge in (-0.49, 0.0, 0.49):
        np.testing.assert_array_equal(quantise(x + nudge / 255), levels)


@pytest.mark.parametrize("sign", [-1, 1])
def test_projected_images_are_in_the_budget_as_pixels_for_every_level_and_epsilon(
    sign: int,
) -> None:
    clean = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    for max_epsilon in range(256):
        x = to_float(clean)
        pixels = quantise(project_to_ball(x + sign * 2, x, max_epsilon / 255)).astype(int)
        np.testing.assert_array_equal(
            pixels, np.clip(clean.astype(int) + sign * max_epsilon, 0, 255)
        )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda x: 255 * x, r"floats in \[0, 1\]; got float32 of .* to 255; of levels"),
        (lambda x: (255 * x).byte(), r"floats in \[0, 1\]; got uint8 of"),
        (lambda x: 4 * x - 2, "got float32 of -2 to 2"),
        (lambda x: x / 0 * 0, "got float32 of nan to nan"),
    ],
)
def test_images_of_another_scale_are_not_written_as_white_ones(
    wrong: Callable[[Tensor], Tensor], told: str, inputs: Path, output: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        attack_main(lambda images, eps: wrong(images), call(inputs, output, 16), batch_size=7)
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda n: torch.zeros(n, 10), r"got float32 \(7, 10\); of logits take .argmax\(1\)"),
        (lambda n: torch.zeros(n), r"integers \(7,\), for 7 images; got float32 \(7,\)"),
        (lambda n: torch.zeros(n - 1, dtype=torch.int64), r"got int64 \(6,\)"),
        (lambda n: torch.zeros(n, dtype=torch.bool), r"got bool \(7,\)"),
    ],
)
def test_what_is_no_label_is_told_and_not_written(
    wrong: Callable[[int], Tensor], told: str, inputs: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.csv"
    with pytest.raises(ValueError, match=told):
        defense_main(lambda images: wrong(len(images)), call(inputs, result), batch_size=7)
    assert result.read_text() == ""


def test_labels_may_be_integers_of_any_kind(inputs: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.csv"
    kinds = (torch.int32, torch.uint8, torch.int16)
    for number, kind in enumerate(kinds):
        labels = torch.full((7,), number).to(kind)
        defense_main(lambda _, labels=labels: labels, call(inputs, result), batch_size=7)  # type: ignore[misc]
        assert {line.split(",")[1] for line in result.read_text().split()} == {str(number)}
