"""Public images as datasets: what the rulebook says of the digits, digit by digit."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from advcomp.errors import InvalidConfig
from advcomp.players.dataset_command import main
from advcomp.players.datasets import Part, cifar10, digits, labelled_images
from advcomp.rules.dataset import Dataset, load_dataset


def written(folder: Path, *arguments: str) -> Dataset:
    main([*arguments[:1], str(folder), *arguments[1:]], standalone_mode=False)
    return load_dataset(folder / "images", folder / "images.csv")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Three JPEGs to train on and two to test on, of one colour each."""
    arrays: dict[str, Any] = {}
    for name, levels in (("train", (10, 20, 30)), ("test", (40, 50))):
        files = []
        for level in levels:
            file = BytesIO()
            Image.new("RGB", (32, 32), (level, level, level)).save(file, "JPEG")
            files.append(file.getvalue())
        arrays[f"{name}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{name}_labels"] = np.arange(len(files), dtype=np.uint8)
    np.savez(tmp_path / "cifar.npz", **arrays)
    return tmp_path / "cifar.npz"


def test_the_last_600_digits_are_the_tournaments(tmp_path: Path) -> None:
    source = load_digits()
    dataset = written(tmp_path / "digits", "digits")
    assert dataset.image_ids == tuple(f"digits-{i}" for i in range(1197, 1797))
    np.testing.assert_array_equal(dataset.labels, source.target[1197:])
    for i in (0, 299, 599):
        small = np.floor(source.images[1197 + i] * 255 / 16 + 0.5).astype(np.uint8)
        large = Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(dataset.image(i), np.stack([np.array(large)] * 3, axis=2))


def test_the_two_parts_of_the_digits_share_nothing_and_leave_nothing_out() -> None:
    training, tournament = digits(Part.TRAINING), digits(Part.TOURNAMENT)
    assert len(training.labels) == 1197
    assert training.image_ids + tournament.image_ids == tuple(
        f"digits-{i:04d}" for i in range(1797)
    )
    assert not {x.tobytes() for x in training.levels} & {x.tobytes() for x in tournament.levels}


@pytest.mark.slow
def test_target_classes_are_drawn_with_the_seed_from_the_nine_others(tmp_path: Path) -> None:
    first, same, other = (
        written(tmp_path / name, "digits", "--seed", seed)
        for name, seed in (("first", "1"), ("same", "1"), ("other", "2"))
    )
    assert first.digest == same.digest != other.digest
    assert first.target_classes is not None
    distances = (first.target_classes - first.labels) % 10
    assert np.bincount(distances, minlength=10)[0] == 0
    assert (np.bincount(distances, minlength=10)[1:] > 30).all()


@pytest.mark.slow
def test_the_training_part_can_be_written_too(tmp_path: Path) -> None:
    dataset = written(tmp_path / "digits", "digits", "--part", "training")
    assert (len(dataset), dataset.image_ids[0]) == (1197, "digits-0000")


def test_cifar10_is_read_from_packed_jpegs(packed: Path, tmp_path: Path) -> None:
    dataset = written(tmp_path / "cifar", "cifar10", "--source", str(packed))
    assert dataset.image_ids == ("cifar10-test-00000", "cifar10-test-00001")
    assert dataset.labels.tolist() == [0, 1]
    assert [int(dataset.image(i).mean().round()) for i in range(2)] == [40, 50]
    training = cifar10(Part.TRAINING, packed)
    assert training.levels.mean((1, 2, 3)).round().tolist() == [10, 20, 30]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_source_that_is_no_packed_cifar10_is_refused(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "cifar.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        InvalidConfig, match=r"cifar\.npz: expected an \.npz file of JPEGs"
    ) as told:
        cifar10(Part.TOURNAMENT, path)
    assert "; got " in str(told.value)
    assert "Errno" not in str(told.value)


def test_packed_bytes_that_are_no_jpegs_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "cifar.npz",
        test_jpeg=np.zeros(9, np.uint8),
        test_offsets=np.array([0, 9]),
        test_labels=np.array([0]),
    )
    with pytest.raises(InvalidConfig, match=r"cifar\.npz: expected .* got cannot identify image"):
        cifar10(Part.TOURNAMENT, tmp_path / "cifar.npz")


def test_a_root_without_cifar10_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="--download"):
        cifar10(Part.TOURNAMENT, tmp_path)


def test_cifar10_is_looked_for_in_the_cache_where_no_source_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SystemExit):
        main(["cifar10", str(tmp_path / "cifar")])
    assert f"{tmp_path}/cache/advcomp/torchvision: expected" in capsys.readouterr().err
    assert not (tmp_path / "cifar").exists()


def test_datasets_go_by_their_names_too(packed: Path) -> None:
    assert labelled_images("digits", Part.TOURNAMENT).image_ids[0] == "digits-1197"
    images = labelled_images("cifar10", Part.TRAINING, packed)
    assert images.image_ids == tuple(f"cifar10-train-0000{i}" for i in range(3))


def test_a_problem_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(SystemExit) as caught:
        main(["digits", str(tmp_path), "--part", "training"])
    assert caught.value.code == 1
    assert f"{tmp_path}: must not exist" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
