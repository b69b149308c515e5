"""The images of a tournament: the organiser's folder, or one that advcomp can make."""

import os
import tempfile
from pathlib import Path

from advcomp.errors import AdvcompError, InvalidConfig
from advcomp.rules.dataset import IMAGES_CSV, IMAGES_FOLDER, Dataset, load_dataset
from advcomp.sandbox.trusted import run_module
from advcomp.tournament.config import DatasetSource, Tournament, check_room
from advcomp.tournament.job.plan import images_of_an_attack_at_once

DATASET_PROGRAM = "advcomp.players.dataset_command"


def open_dataset(tournament: Tournament) -> Dataset:
    """The tournament's dataset, checked, with as many images as the file asks for.

    Raises:
        InvalidDataset: All that is wrong with it.
        InvalidConfig: What an attack makes of it has no room in [limits] output.
    """
    table = tournament.dataset
    if table.source is DatasetSource.FOLDER:
        assert table.images_dir is not None
        assert table.csv is not None
        dataset = load_dataset(table.images_dir, table.csv)
    else:
        folder = _cached(table.source, table.seed)
        dataset = load_dataset(folder / IMAGES_FOLDER, folder / IMAGES_CSV)
    if table.images is not None:
        dataset = dataset.subset(table.images, table.seed)
    at_once = images_of_an_attack_at_once(dataset.height, dataset.width)
    check_room(tournament, len(dataset), at_once)
    return dataset


def write_source(source: str, folder: Path, *options: str) -> str:
    """Write a dataset to `folder`, in a process of its own: it needs what the referee has not.

    Returns what there is to say about it.
    """
    return run_module(DATASET_PROGRAM, source, str(folder), *options)


def _cached(source: DatasetSource, seed: int) -> Path:
    folder = _cache() / f"{source}-seed{seed}"
    if not folder.exists():
        _require_room_for(folder, source)
        try:
            write_source(source, folder, "--seed", str(seed))
        except AdvcompError:
            if not folder.exists():  # else another process was quicker
                raise
    return folder


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(home) / "advcomp"  # unlike Path.home, without an error where nobody has a home


def _require_room_for(folder: Path, source: DatasetSource) -> None:
    """Refuse where nothing can be made beside `folder`, before a program tries."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent):
            pass
    except OSError as error:
        raise InvalidConfig(
            f'{folder.parent}: [dataset] source = "{source}" is made once and kept there: '
            f"expected a folder that can be written; got: {error.strerror}; set XDG_CACHE_HOME "
            f"to one, or write the images with `advcomp dataset {source} DIR` and set "
            'source = "folder"'
        ) from error
