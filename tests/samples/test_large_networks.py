"""A sample with a network and images of real size fits into a small box."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.boxed_defense import write_images

from advcomp.players.classifiers import Classifier
from advcomp.sandbox.base import BoxRun, Limits, RunSpec, Sandbox

FGSM = Path(__file__).parents[2] / "attacks" / "fgsm"
LEVELS = np.random.default_rng(0).integers(256, size=(2, 299, 299, 3), dtype=np.uint8)


def attacked(sandbox: Sandbox, folder: Path, memory_bytes: int) -> BoxRun:
    return sandbox.run(
        RunSpec(
            argv=("./run_attack.sh", "/input_images", "/output_images", "16"),
            limits=Limits(wall_s=600, memory_bytes=memory_bytes),
            code=folder / "code",
            inputs={"/input_images": folder / "in"},
            output="/output_images",
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "memory_bytes"),
    [
        ("torchvision/mobilenet_v2", 1 << 30),
        pytest.param("torchvision/inception_v3", 3 << 29, marks=pytest.mark.long),
        pytest.param("torchvision/resnet50", 3 << 29, marks=pytest.mark.long),
    ],
)
def test_fgsm_on_large_images_stays_within_its_memory(
    architecture: str, memory_bytes: int, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Fifty images at once, as small networks have them, take several times as much."""
    shutil.copytree(FGSM, tmp_path / "code")
    torch.manual_seed(0)
    Classifier(architecture, 1000).save(tmp_path / "code" / "surrogate.safetensors")
    names = write_images(tmp_path / "in", LEVELS)
    with attacked(sandbox, tmp_path, memory_bytes) as run:
        assert run.result.exit_code == 0, run.result.log.decode()
        assert not run.result.oom_killed
        assert all(run.output.read(f"{name}.png", 1 << 20) for name in names)
