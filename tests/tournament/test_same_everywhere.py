"""The digits tournament on every sandbox: deterministic entries give the same labels.

Fewer images and one budget, but every entry: each of them judges an image by its pixels alone.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Require
from support.backends import CONTAINERS, marked
from support.contest import Watcher

from advcomp.rules.verdict import Verdict
from advcomp.sandbox.probe import open_sandbox
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.outcome.collect import collect_finished
from advcomp.tournament.runner import RunOptions, run_tournament

DIGITS = Path(__file__).parents[2] / "tournament" / "digits" / "digits.toml"
RUNTIME = "advcomp/runtime"
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
def outside(file: Path, require: Require) -> Played:
    """What bubblewrap gives."""
    require("bubblewrap")
    return play(file, "bubblewrap")


@pytest.mark.parametrize("backend", marked(*CONTAINERS))
def test_every_entry_gives_the_same_labels_as_in_bubblewrap(
    file: Path, outside: Played, backend: str, require: Require
) -> None:
    require(backend)
    with closing(open_sandbox(backend)) as sandbox:
        assert sandbox.images is not None
        if sandbox.images.find(RUNTIME) is None:
            pytest.skip(f"{backend} has no image {RUNTIME}: docker/build.sh runtime")
    played = play(file, backend)
    assert played.images == outside.images
    assert played.clean_labels == outside.clean_labels
    assert played.labels == outside.labels


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
