"""2017's tournament for who has its images and weights: planned."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.tournament.outcome.forecast import forecast

ROOT = Path(__file__).resolve().parents[2]
IMAGENET = ROOT / "tournament" / "imagenet"
CLASSES = 1001
NETWORKS = ("surrogate_1", "surrogate_2", "plain", "robust")


def tournament_in(folder: Path, labels: Sequence[int], levels: np.ndarray) -> Path:
    """The file beside images and empty weights, and beside the entries that it names."""
    for name in ("attacks", "defenses"):
        (folder / name).symlink_to(ROOT / name)
    own = folder / "tournament" / "imagenet"
    own.mkdir(parents=True)
    (own.parent / "cifar10").symlink_to(ROOT / "tournament" / "cifar10")
    shutil.copy(IMAGENET / "nips17.toml", own)
    write_dataset(
        own / "data",
        (
            LabelledImage(
                image_id=f"{i:016x}",
                image=image,
                label=label,
                target_class=1 + label % (CLASSES - 1),
            )
            for i, (label, image) in enumerate(zip(labels, levels, strict=True))
        ),
    )
    (own / "weights").mkdir()
    for name in NETWORKS:
        (own / "weights" / f"{name}.safetensors").touch()
    return own / "nips17.toml"


def drawn(n: int) -> np.ndarray:
    rough = np.random.default_rng(17).integers(256, size=(n, 13, 13, 3), dtype=np.uint8)
    return rough.repeat(23, axis=1).repeat(23, axis=2)


@pytest.mark.slow
def test_2017s_tournament_is_planned_whole(tmp_path: Path) -> None:
    """Every entry is there, and asks for no other file than the page says."""
    file = tournament_in(tmp_path, [1, 1000], drawn(2))
    outlook = forecast(file, tmp_path / "run", None)
    entries = [row.entry for row in outlook.rows if row.jobs]
    assert len(entries) == 10
    assert len(set(entries)) == 10
    page = (ROOT / "docs" / "nips17.md").read_text()
    assert all(f"`{name}.safetensors`" in page for name in NETWORKS)
