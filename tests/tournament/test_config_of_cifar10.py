"""CIFAR-10's tournament, as far as it goes without CIFAR-10: entries, weights, plan, tables;
and the figure that benchmarks/frontier.py makes of them.
"""

import csv
import hashlib
import runpy
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from advcomp.players.attack_catalogue import ATTACKS
from advcomp.players.classifier.classifier_recipe import read_classifier_recipes
from advcomp.players.classifiers import load_classifier
from advcomp.players.defense_catalogue import DEFENSES
from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.tournament.config import Tournament, load_tournament
from advcomp.tournament.entry.entries import load_entries
from advcomp.tournament.outcome.forecast import forecast

ROOT = Path(__file__).resolve().parents[2]
CIFAR10 = ROOT / "tournament" / "cifar10"
WEIGHTS = {path.stem: path for path in (CIFAR10 / "weights").glob("*.safetensors")}
MILD = [path for name, path in WEIGHTS.items() if name.endswith("_a")]
MEGABYTES = 3.5
PREPARE: dict[str, Any] = runpy.run_path(str(CIFAR10 / "prepare.py"))
FRONTIER: dict[str, Any] = runpy.run_path(str(ROOT / "benchmarks" / "frontier.py"))


def greys() -> Iterator[LabelledImage]:
    """As many images as the tournament wants."""
    for i in range(250):
        image = np.full((32, 32, 3), i, np.uint8)
        yield LabelledImage(
            image_id=f"grey-{i}", image=image, label=i % 10, target_class=(i + 1) % 10
        )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tournament's file beside the data that prepare.py would make of CIFAR-10."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("attacks", "defenses"):
        (root / folder).symlink_to(ROOT / folder)
    ignored = shutil.ignore_patterns("data", "checkpoints")
    shutil.copytree(CIFAR10, root / "tournament" / "cifar10", ignore=ignored)
    data = root / "tournament" / "cifar10" / "data"
    write_dataset(data, greys())
    for name in ("admix", "universal"):
        (data / f"{name}.safetensors").touch()
    return root / "tournament" / "cifar10" / "cifar10.toml"


@pytest.fixture(scope="module")
def tournament(prepared: Path) -> Tournament:
    return load_tournament(prepared)


def test_without_cifar10_a_line_says_so(tmp_path: Path) -> None:
    told = CliRunner().invoke(PREPARE["main"], ["--source", str(tmp_path / "nowhere")])
    assert told.exit_code == 1
    assert told.output.startswith(f"Error: {tmp_path}/nowhere: expected torchvision's copy")


def test_it_fetches_what_is_not_there_into_a_folder_alone(tmp_path: Path) -> None:
    words = ["--source", str(tmp_path / "cifar10.npz"), "--download"]
    told = CliRunner().invoke(PREPARE["main"], words)
    assert told.exit_code == 1
    assert "--download needs a folder to fetch into; got an .npz file" in told.output


def test_the_tournament_is_planned(prepared: Path, tmp_path: Path) -> None:
    outlook = forecast(prepared, tmp_path / "run", None)
    entries = tomllib.loads(prepared.read_text())["entries"]
    played = {row.entry for row in outlook.rows if row.jobs}
    assert len(played) == len(entries["attacks"]) + len(entries["defenses"])


def test_every_attack_and_defense_of_the_library_plays(tournament: Tournament) -> None:
    played: dict[str, set[str]] = {"attack": set(), "defense": set()}
    for source in load_entries(tournament).sources:
        for kind, names in played.items():
            if settings := source.files.get(f"{kind}.toml"):
                names.add(tomllib.loads(settings.read_text())[kind])
    assert played["attack"] == ATTACKS.keys() - {"tsail"}  # plays as a sample of its own
    assert played["defense"] == DEFENSES.keys() - {"plain"}  # plays as a sample of its own


def test_attacks_share_three_surrogates_with_no_defense(tournament: Tournament) -> None:
    """But a few, named so, which have three milder ones."""
    used: dict[str, set[str]] = {"attack": set(), "defense": set()}
    asked = {}
    for source in load_entries(tournament).sources:
        assert source.role is not None
        files = [path for name, path in source.files.items() if "surrogate" in name]
        assert len(set(files)) == len(files)
        asked[source.name] = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        weights = [path for name, path in source.files.items() if "classifier" in name]
        used[source.role] |= {hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}
        used[source.role] |= asked[source.name]
    told = asked["attack_network_two_gradients"]
    mild = {hashlib.sha256(path.read_bytes()).hexdigest() for path in MILD}
    assert len(told) == 3
    assert told == asked["attack_network_one_gradient"] == asked["autopgd_ce"]
    assert not asked["attack_network_no_gradient"]
    for name, those in asked.items():
        assert those in ((mild,) if name.endswith("_mild") else (set(), told))
    assert not used["attack"] & used["defense"]
    assert used["attack"] == told | mild


def test_an_attack_named_after_gradients_is_fused_in_them() -> None:
    """Which is what makes a network's hint alone of it."""
    for path in (CIFAR10 / "attacks").glob("*_gradients.toml"):
        settings = tomllib.loads(path.read_text())
        alone = tomllib.loads(
            (path.with_name(f"{path.stem.removesuffix('_gradients')}.toml")).read_text()
        )
        assert settings == alone | {"fusion": "gradients", "labels": "soft"}


def test_the_committed_weights_are_those_of_the_recipe() -> None:
    recipe = read_classifier_recipes(CIFAR10 / "train.toml").classifier
    assert recipe.keys() <= WEIGHTS.keys()
    for name, one in recipe.items():
        classifier = load_classifier(WEIGHTS[name])
        assert (classifier.architecture, classifier.classes) == (one.architecture, 10)
        assert classifier.feed.input_size == (32, 32)
    assert sum(path.stat().st_size for path in WEIGHTS.values()) <= MEGABYTES * 1e6


def test_the_recipe_has_four_architectures_and_adversarial_training() -> None:
    recipe = read_classifier_recipes(CIFAR10 / "train.toml").classifier.values()
    assert len({one.architecture for one in recipe}) >= 4
    robust = {one.objective.name for one in recipe if one.objective.max_epsilon == 8}
    assert robust == {"fgsm", "ensemble", "trades"}


@pytest.mark.parametrize(
    "table", sorted((CIFAR10 / "expected").glob("*_matrix.csv")), ids=lambda table: table.stem
)
def test_the_stored_tables_are_those_of_the_entries(table: Path, tournament: Tournament) -> None:
    names = {source.name for source in load_entries(tournament).sources}
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row[""] for row in rows} | rows[0].keys() - {""} == names
    assert all(0 <= int(cell) <= 250 for row in rows for name, cell in row.items() if name)


def test_gradients_are_those_that_an_attack_asks_for(tournament: Tournament) -> None:
    """Its paper's: each of ten steps looks at five copies, too."""
    sources = {source.name: source for source in load_entries(tournament).sources}
    asked = {"noop": 0, "fgsm": 1, "da_fgsm": 2, "mi_fgsm": 10, "si_fgsm": 50}
    networks = ("no_gradient", "one_gradient", "two_gradients")
    asked |= {f"attack_network_{name}": number for number, name in enumerate(networks)}
    assert {name: FRONTIER["counted"](sources[name]) for name in asked} == asked
    assert FRONTIER["counted"](sources["tsail_2017"]) is None


def test_the_frontier_holds_what_the_stored_tables_say(
    prepared: Path, tournament: Tournament, tmp_path: Path
) -> None:
    names = [source.name for source in load_entries(tournament).sources]
    told = [f"--gradients={name}={number}" for number, name in enumerate(names)]
    panels = ["--panel=two=fgsm_trained,trades_*", "--panel=all=*"]
    out, tables = tmp_path / "frontier", CIFAR10 / "expected"
    line = [str(prepared), str(tables), "--out", str(out), *panels, *told]
    FRONTIER["main"](line, standalone_mode=False)
    with out.with_suffix(".csv").open(newline="") as file:
        rows = {row["attack"]: row for row in csv.DictReader(file)}
    with (tables / "error_matrix.csv").open(newline="") as file:
        errors = {row[""]: row for row in csv.DictReader(file)}
    assert "targeted_fgsm" not in rows
    assert rows["fgsm"]["gradients"] == str(names.index("fgsm"))
    two = sum(int(errors[name]["fgsm"]) for name in ("fgsm_trained", "trades_trained")) / 500
    everybody = sum(int(row["fgsm"]) for row in errors.values()) / (250 * len(errors))
    assert float(rows["fgsm"]["two"]) == pytest.approx(two, abs=1e-4)
    assert float(rows["fgsm"]["all"]) == pytest.approx(everybody, abs=1e-4)
    drawn = ElementTree.parse(out.with_suffix(".svg"))
    assert len(drawn.findall(".//{http://www.w3.org/2000/svg}circle")) == 2 * len(rows)


def test_the_line_leads_over_what_none_beats_with_fewer() -> None:
    places = [(30.0, 50.0), (10.0, 100.0), (20.0, 120.0), (30.0, 60.0)]
    best = FRONTIER["leaders"](places)
    assert best == [(10.0, 100.0), (30.0, 50.0)]
    assert FRONTIER["staircase"](best) == "M10.0 100.0H30.0V50.0"


def test_names_of_leaders_side_by_side_are_not_written_over_each_other() -> None:
    places = [(10.0, 100.0), (30.0, 98.0), (40.0, 60.0)]
    assert FRONTIER["name_lines"](places) == [97.0, 88.0, 57.0]


def test_a_name_below_its_dot_meets_no_other() -> None:
    assert FRONTIER["line_below"](50.0, [20.0, 80.0]) == 59.0
    assert FRONTIER["line_below"](50.0, [20.0, 61.0, 72.0]) == 86.0
