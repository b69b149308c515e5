"""The digits tournament on every sandbox: deterministic entries give the same labels.

Fewer images and one budget: every entry judges an image by its pixels alone. Torch comes in the
largest image, which every engine would hold: what is the same in Podman's containers as in
bubblewrap is tried there, with some entries of each kind; Docker and gVisor are held to entries
that need numpy alone, and all of them to all entries in the long set.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from conftest import Require
from support.backends import CONTAINERS, mark_of, marked
from support.contest import Contest, Watcher

from advcomp.rules.verdict import Verdict
from advcomp.sandbox.probe import open_sandbox
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.outcome.collect import collect_finished
from advcomp.tournament.runner import RunOptions, run_tournament

DIGITS = Path(__file__).parents[2] / "tournament" / "digits" / "digits.toml"
RUNTIME = "advcomp/runtime"
LIGHT = ("noop", "random_noise")
FINGERPRINT = """\
#!/usr/bin/env python3
import sys, zlib
from pathlib import Path
import numpy as np
from PIL import Image
with open(sys.argv[2], "w") as file:
    for path in Path(sys.argv[1]).glob("*.png"):
        pixels = np.array(Image.open(path))
        print(f"{path.name},{zlib.crc32(pixels.tobytes()) % 30000}", file=file)
"""
"""A defense without torch whose answer every pixel changes."""

SOME = ("momentum_ensemble", "attack_network", "ensemble")
"""Gradients of several classifiers, and none; several classifiers."""
WITH_TORCH = [
    pytest.param("podman", SOME, marks=mark_of("podman"), id="podman-some"),
    *(
        pytest.param(name, (), marks=(*mark_of(name), pytest.mark.long), id=f"{name}-all")
        for name in CONTAINERS
    ),
]
"""Backends and the entries that play there, all where none is named."""
IMAGES, MAX_EPSILON = 40, 32


@dataclass(frozen=True)
class Played:
    """What came out of a run: labels by pair of entries, and the attacks' images."""

    labels: dict[tuple[str, str], list[int]]
    clean_labels: dict[str, list[int]]
    images: dict[str, str]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.toml with fewer images and one budget."""
    text = DIGITS.read_text()
    for old, new in {
        "images = 300": f"images = {IMAGES}",
        "seconds_per_100_images = 60": "seconds_per_100_images = 2000",  # no test of speed
        "max_epsilons = [16, 32, 48]": f"max_epsilons = [{MAX_EPSILON}]",
        '"../../': f'"{DIGITS.parents[2]}/',
        '"weights/': f'"{DIGITS.parent}/weights/',
    }.items():
        assert old in text
        text = text.replace(old, new)
    file = tmp_path_factory.mktemp("digits") / "digits.toml"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def light_file(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without torch, in the small image."""
    attacks = with_entries(file.read_text(), LIGHT)
    folder: Path = tmp_path_factory.mktemp("light")
    defense = Contest(folder).entry("fingerprint", FINGERPRINT, "defense", container=RUNTIME)
    small = f'images = ["{RUNTIME}"]', f'image_map = {{ "{RUNTIME}" = "advcomp/referee" }}'
    assert small[0] in attacks
    light = folder / "light.toml"
    light.write_text(f'{attacks.replace(*small)}\n[[entries.defenses]]\npath = "{defense}"\n')
    return light


@pytest.fixture(scope="module")
def outside(file: Path, require: Require) -> Callable[[Sequence[str]], tuple[Path, Played]]:
    """The tournament of some entries, or of all, and what bubblewrap gives."""
    require("bubblewrap")

    @cache
    def played(names: Sequence[str]) -> tuple[Path, Played]:
        folder = file.parent / ("-".join(names) or "all")
        folder.mkdir()
        part = folder / file.name
        part.write_text(with_entries(file.read_text(), names) if names else file.read_text())
        return part, play(part, "bubblewrap")

    return played


def with_entries(text: str, names: Sequence[str]) -> str:
    """A tournament of these entries alone."""
    head, *tables = text.split("[[entries.")
    chosen = [table for table in tables if any(f'/{name}"' in table for name in names)]
    assert len(chosen) == len(names)
    return "[[entries.".join([head, *chosen])


@pytest.fixture(scope="module")
def light_outside(light_file: Path, require: Require) -> Played:
    """What bubblewrap gives without torch."""
    require("bubblewrap")
    return play(light_file, "bubblewrap")


@pytest.mark.parametrize("backend", marked(*CONTAINERS))
def test_entries_without_torch_give_the_same_labels_as_in_bubblewrap(
    light_file: Path, light_outside: Played, backend: str, require: Require
) -> None:
    require(backend)
    labels = light_outside.labels
    assert set(labels) == {(name, "fingerprint") for name in LIGHT}
    assert len({tuple(each) for each in labels.values()}) == len(LIGHT)
    assert play(light_file, backend) == light_outside


@pytest.mark.parametrize(("backend", "names"), WITH_TORCH)
def test_every_entry_gives_the_same_labels_as_in_bubblewrap(
    outside: Callable[[Sequence[str]], tuple[Path, Played]],
    backend: str,
    names: Sequence[str],
    require: Require,
) -> None:
    require(backend)
    if backend == "podman":
        require("runtime")  # where it is called for, its absence fails
    with closing(open_sandbox(backend)) as sandbox:
        assert sandbox.images is not None
        if sandbox.images.find(RUNTIME) is None:
            pytest.skip(f"{backend} has no image {RUNTIME}: docker/build.sh runtime")
    file, expected = outside(names)
    played = play(file, backend)
    assert played.images == expected.images
    assert played.clean_labels == expected.clean_labels
    assert played.labels == expected.labels


def play(file: Path, backend: str) -> Played:
    watcher = Watcher()
    options = RunOptions(file=file, out=file.parent / backend, backend=backend, jobs=1)
    run = run_tournament(options, watcher, Stop()).run
    assert {result.verdict for result in watcher.results} == {Verdict.OK}, watcher.results
    state, collected = collect_finished(run)
    results = collected.results
    assert results.predictions.min() >= 0, "every label exists"
    attacks = [entry.name for entry in state.attacks]
    defenses = [entry.name for entry in state.defenses]
    return Played(
        labels={
            (attack, defense): results.predictions[d, a].tolist()
            for a, attack in enumerate(attacks)
            for d, defense in enumerate(defenses)
        },
        clean_labels={
            defense: results.clean_predictions[d].tolist() for d, defense in enumerate(defenses)
        },
        images={result.job: result.outputs for result in watcher.results if result.png_digests},
    )
