"""How many images go through a function at once, and what happens where they do not fit."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from advcomp.players.attacks import iterative_fgsm
from advcomp.players.batches import (
    MEMORY_VARIABLE,
    MOST,
    WORTH_BYTES,
    batch_size_for,
    is_out_of_memory,
    peak_bytes,
    room_bytes,
)
from advcomp.players.contract import attack_main, defense_main

MIB = 1 << 20
IMAGE = torch.zeros(1, 3, 4, 4)


def weigh(mebibytes: int) -> Callable[[Tensor], Tensor]:
    """A function that takes so much memory for each image, for a moment."""

    def function(images: Tensor) -> Tensor:
        taken = torch.zeros(len(images), mebibytes * MIB, dtype=torch.uint8)
        return images + taken[:, :1].view(-1, 1, 1, 1)

    return function


def test_what_is_alive_at_once_is_counted_to_the_byte() -> None:
    x = torch.ones(MIB // 4)

    def call() -> None:
        y = x + 1
        z = y * 2
        del y
        z.view(2, -1).add_(1)
        w = z + z
        del z
        torch.add(w, 1, out=w)

    assert peak_bytes(call) == 2 * MIB


def test_what_a_gradient_keeps_is_counted() -> None:
    x = torch.ones(MIB // 4, requires_grad=True)

    def call() -> None:
        # Of y = sum of sines, three times over: each sine's input, its cosine in the last step.
        torch.autograd.grad(x.sin().sin().sin().sum(), x)

    assert 4 * MIB <= peak_bytes(call) <= 5.1 * MIB


@pytest.mark.parametrize(
    ("mebibytes", "size"), [(1, MOST), (10, MOST), (20, 25), (100, 5), (512, 1), (900, 1)]
)
def test_the_need_says_how_many_images_go_at_once(
    mebibytes: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MEMORY_VARIABLE, raising=False)
    assert batch_size_for(weigh(mebibytes), IMAGE) == size
    assert WORTH_BYTES == 512 * MIB


def test_a_box_with_little_memory_takes_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    used = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    for left, least, most in ((600, 14, 16), (60, 1, 2), (0, 1, 1)):
        # 0.8 of what is left, of which tensors are two thirds, of 20 MiB each.
        monkeypatch.setenv(MEMORY_VARIABLE, str(used + left * MIB))
        assert least <= batch_size_for(weigh(20), IMAGE) <= most


def test_an_entrys_own_files_take_of_a_boxs_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = room_bytes({MEMORY_VARIABLE: str(64 << 30)})
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "file").write_bytes(bytes(50 * MIB))
    after = room_bytes({MEMORY_VARIABLE: str(64 << 30)})
    assert before - after == pytest.approx(40 * MIB, abs=5 * MIB)
    assert room_bytes({}) == float("inf")


def test_an_attack_is_tried_for_two_gradients_only() -> None:
    seen: list[int] = []

    def classifier(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x.flatten(1)[:, :3] * 2

    def attack(x: Tensor) -> Tensor:
        return iterative_fgsm(classifier, x, torch.zeros(1, dtype=torch.int64), eps=0.1)

    assert batch_size_for(attack, IMAGE) == MOST
    assert seen == [1, 1]


def test_a_trial_leaves_the_drawn_numbers_as_they_were() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batch_size_for(lambda x: x + torch.rand_like(x), IMAGE)
    assert torch.equal(torch.rand(3), expected)


def test_what_fails_in_a_trial_fails_in_earnest(tmp_path: Path) -> None:
    folder(tmp_path, 3)

    def attack(images: Tensor, eps: float) -> Tensor:
        raise RuntimeError(f"no such thing for {len(images)}")

    with pytest.raises(RuntimeError, match="no such thing for 50"):
        attack_main(attack, [str(tmp_path / "in"), str(tmp_path / "out"), "16"])


def folder(path: Path, count: int) -> None:
    (path / "in").mkdir()
    (path / "out").mkdir()
    for i in range(count):
        levels = np.full((4, 4, 3), i, np.uint8)
        Image.fromarray(levels).save(path / "in" / f"{i:02}.png")


def too_much(count: int) -> None:
    """What PyTorch raises where there is no memory."""
    torch.empty(count << 50, dtype=torch.uint8)


def out_of_gpu_memory(count: int) -> None:
    raise torch.OutOfMemoryError(f"CUDA out of memory for {count}")


@pytest.mark.parametrize("fail", [too_much, out_of_gpu_memory])
def test_a_batch_that_finds_no_memory_is_halved_and_tried_again(
    fail: Callable[[int], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path, 12)
    sizes: list[int] = []

    def attack(images: Tensor, eps: float) -> Tensor:
        sizes.append(len(images))
        if len(images) > 3:
            fail(len(images))
        return images + eps

    attack_main(attack, [str(tmp_path / "in"), str(tmp_path / "out"), "16"], batch_size=7)
    assert sizes == [7, 3, 3, 3, 3]
    assert "no memory for 7 images at once: trying 3" in capsys.readouterr().err
    written = [np.array(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())]
    assert [int(levels.max()) for levels in written] == [16 + i for i in range(12)]


def test_no_memory_for_one_image_is_an_error(tmp_path: Path) -> None:
    folder(tmp_path, 2)
    sizes: list[int] = []

    def defense(images: Tensor) -> Tensor:
        sizes.append(len(images))
        too_much(len(images))
        return torch.zeros(len(images))

    with pytest.raises(RuntimeError) as caught:
        defense_main(defense, [str(tmp_path / "in"), str(tmp_path / "result.csv")], batch_size=2)
    assert is_out_of_memory(caught.value)
    assert sizes == [2, 1]
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


@pytest.mark.slow
def test_looking_at_the_need_imports_no_compiler() -> None:
    """Which takes three seconds, in every run of every entry."""
    program = (
        "import sys, torch; from advcomp.players.batches import batch_size_for\n"
        "print(batch_size_for(torch.nn.Conv2d(3, 3, 3), torch.rand(1, 3, 8, 8)))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.stdout
    assert done.returncode == 0, done.stderr
