"""A run in a notebook: frames against the result files, images against the store."""

import csv
import inspect
import itertools
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import Require
from support.contest import BRIGHTNESS, CONSTANT, COPY, DARKER, Contest, write_greys
from support.run_folder import RunFolder

import advcomp
from advcomp.cli import main
from advcomp.errors import InvalidConfig, InvalidDataset, RunConflict
from advcomp.notebook.frames import ANSWERS, answer_batches
from advcomp.rules.verdict import Verdict
from advcomp.scoring.scores import Absence
from advcomp.tournament.config import ScoringTable
from advcomp.tournament.store.state import save_state

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "python.md"

IMAGES = 6


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Contest:
    require("bubblewrap")
    folder: Path = tmp_path_factory.mktemp("played")
    write_greys(folder / "data", IMAGES)
    contest = Contest(folder)
    contest.entry("noop", COPY)
    contest.entry("darker", DARKER)
    contest.entry("brightness", BRIGHTNESS, "defense")
    contest.entry("three", CONSTANT, "defense")
    return contest


@pytest.fixture(scope="module")
def played(contest: Contest) -> advcomp.Run:
    place = contest.folder / "entries_of_the_test"
    file = contest.file(
        [place / "noop", place / "darker"], [place / "brightness", place / "three"]
    )
    return advcomp.run(file, out=contest.folder / "runs" / "contest", jobs=2)


@pytest.fixture(scope="module")
def other(contest: Contest) -> advcomp.Run:
    """The same without `noop` and one budget, under another name, and `darker` renamed."""
    place = contest.folder / "entries_of_the_test"
    file = contest.file(
        [{"path": str(place / "darker"), "name": "dimmer"}],
        [place / "brightness", place / "three"],
        max_epsilons=(32,),
        name="other",
    )
    return advcomp.run(file, out=contest.folder / "runs" / "other", jobs=2)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


def test_run_takes_what_the_command_takes() -> None:
    """All but the events that a program reads from a pipe."""
    options = {option.name for option in main.commands["run"].params} - {"json"}
    assert set(inspect.signature(advcomp.run).parameters) == options


def test_the_leaderboard_is_the_files(played: advcomp.Run) -> None:
    assert played.is_finished
    frame = played.leaderboard()
    stored = rows(played.folder / "results" / "leaderboard.csv")
    more = {"baseline", "start_seconds", "seconds_per_image"}
    assert [name for name in frame.columns if name not in more] == list(stored[0])
    assert more < {*frame.columns}
    assert frame["submission"].tolist() == [row["submission"] for row in stored]
    assert frame["score"].tolist() == pytest.approx(
        [float(row["score"]) for row in stored], abs=1e-6
    )
    assert {str(frame[name].dtype) for name in ("rank", "images")} == {"Int64"}
    assert [str(frame[name].dtype) for name in ("score", "baseline")] == ["Float64", "bool"]
    attacks = played.leaderboard("attack")
    assert set(attacks["track"]) == {"attack"}
    with pytest.raises(
        InvalidConfig, match="expected one of attack, targeted_attack, defense; got 'x'"
    ):
        played.leaderboard("x")


def test_a_matrix_has_the_counts_of_the_files(played: advcomp.Run) -> None:
    for quantity, name in {"misclassification": "error", "correct": "accuracy"}.items():
        for folder, budget, images in (("", None, 2 * IMAGES), ("eps-8", 8, IMAGES)):
            frame = played.matrix(quantity, max_epsilon=budget)
            for row in rows(played.folder / "results" / folder / f"{name}_matrix.csv"):
                defense = row.pop("")
                counts = frame.loc[defense] * images
                assert counts.round(9).to_dict() == {a: float(n) for a, n in row.items()}
    with pytest.raises(InvalidConfig, match="max_epsilon: expected one of 8, 32; got 9"):
        played.matrix(max_epsilon=9)
    with pytest.raises(InvalidConfig, match="quantity: expected one of misclass"):
        played.matrix("error")


def test_answers_are_all_labels_one_row_each(played: advcomp.Run) -> None:
    frame = played.answers()
    results = played.results
    assert len(frame) == results.predictions.size == 2 * 2 * 2 * IMAGES
    assert frame.columns.tolist() == ANSWERS.names
    one = frame[
        (frame.attack == "darker") & (frame.max_epsilon == 32) & (frame.defense == "three")
    ]
    assert one["label"].tolist() == [3] * IMAGES
    matrix = played.matrix()
    for defense in matrix.index:
        for attack in matrix.columns:
            cell = frame.query(f"attack == '{attack}' and defense == '{defense}'")
            rate = (cell["label"] != cell["true_label"]).mean()
            assert rate == pytest.approx(matrix.loc[defense, attack])
    with_clean = played.answers(clean=True)
    assert len(with_clean) == len(frame) + 2 * IMAGES
    assert with_clean[with_clean.attack.isna()]["max_epsilon"].eq(0).all()


def test_batches_can_be_written_and_read_by_others(played: advcomp.Run, tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    with pq.ParquetWriter(path, ANSWERS) as writer:
        for batch in answer_batches(played.results):
            writer.write_batch(batch)
    counted = duckdb.sql(
        f"select defense, count(*) from '{path}' where label = true_label group by defense"
    )
    assert counted is not None
    correct = played.answers().query("label == true_label").groupby("defense").size()
    assert dict(counted.fetchall()) == correct[correct > 0].to_dict()
    assert len(pd.read_parquet(path)) == 48


def test_images_are_the_stores_beside_the_clean_ones(played: advcomp.Run) -> None:
    adversarial, clean, names = played.images("darker", max_epsilon=32)
    assert adversarial.shape == clean.shape == (IMAGES, 5, 7, 3)
    assert names == played.results.image_ids
    assert np.array_equal(adversarial, np.maximum(clean.astype(int) - 32, 0))
    with pytest.raises(
        InvalidConfig, match="an attack of darker, noop and a budget of 8, 32; got 'x'"
    ):
        played.images("x", max_epsilon=32)


def test_a_run_is_loaded_by_its_folder(played: advcomp.Run, tmp_path: Path) -> None:
    again = advcomp.load_run(str(played.folder))
    pd.testing.assert_frame_equal(again.leaderboard(), played.leaderboard())
    assert again._repr_html_().startswith("<table")
    with pytest.raises(RunConflict, match="expected the folder of a run"):
        advcomp.load_run(tmp_path)


def test_budgets_and_cells_are_the_counts_of_the_files(played: advcomp.Run) -> None:
    budgets = played.budgets("attack")
    assert budgets["max_epsilon"].tolist() == [8, 32] * 2
    by_entry = budgets.groupby("submission")["score"].mean()  # as many images at each
    board = played.leaderboard("attack").set_index("submission")["score"]
    assert by_entry.to_dict() == pytest.approx(board.to_dict())
    cells = played.cells()
    for budget in (8, 32):
        for column, name in {"correct": "accuracy", "hit": "hit_target_class"}.items():
            for row in rows(played.folder / "results" / f"eps-{budget}" / f"{name}_matrix.csv"):
                defense = row.pop("")
                own = cells[(cells.max_epsilon == budget) & (cells.defense == defense)]
                stored = {attack: int(n) for attack, n in row.items()}
                assert dict(zip(own["attack"], own[column], strict=True)) == stored
    assert cells["answers"].eq(IMAGES).all()


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow"])
def test_exported_tables_are_read_by_pandas_and_duckdb(
    played: advcomp.Run, tmp_path: Path, form: str
) -> None:
    done = CliRunner().invoke(
        main, ["export", str(played.folder), str(tmp_path), "--format", form]
    )
    assert done.exit_code == 0, done.stderr
    names = ["leaderboard", "budgets", "cells", "jobs", "answers"]
    assert done.stdout.split() == [str(tmp_path / f"{name}.{form}") for name in names]
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{form}" for name in names}
    board = read(tmp_path / f"leaderboard.{form}")
    assert board["score"].tolist() == pytest.approx(played.leaderboard()["score"].tolist())
    answers = read(tmp_path / f"answers.{form}")
    expected = played.answers(clean=True)
    for column in ("image", "true_label", "defense", "max_epsilon", "label"):
        assert answers[column].tolist() == expected[column].tolist()
    assert answers["attack"].isna().tolist() == expected["attack"].isna().tolist()
    # DuckDB reads Arrow files by way of memory.
    source = "answers" if form == "arrow" else f"'{tmp_path / f'answers.{form}'}'"
    counted = duckdb.sql(f"select defense, count(*) from {source} group by defense")
    assert counted is not None
    assert dict(counted.fetchall()) == {"brightness": 5 * IMAGES, "three": 5 * IMAGES}


def read(path: Path) -> pd.DataFrame:
    match path.suffix:
        case ".parquet":
            return pd.read_parquet(path)
        case ".csv":
            return pd.read_csv(path)
        case _:
            return pd.read_feather(path)


def test_export_tells_a_run_from_a_checkpoint(played: advcomp.Run, tmp_path: Path) -> None:
    file = tmp_path / "step-00000001.pt"
    file.write_bytes(b"")
    for words, told in {
        (str(file), "--format", "csv"): "expected the folder of a run",
        (str(file),): "a checkpoint is exported to a DIR; name one",
        (
            str(played.folder),
            str(tmp_path / "x"),
            "--format",
            "onnx",
        ): "expected a checkpoint's file",
    }.items():
        done = CliRunner().invoke(main, ["export", *words])
        assert done.exit_code in (1, 2)
        assert told in done.stderr


def test_figures_show_what_the_frames_hold(played: advcomp.Run) -> None:
    figure = played.plot.heatmap("misclassification", max_epsilon=32)
    axes = figure.axes[0]
    rates = played.matrix(max_epsilon=32)
    columns = [label.get_text() for label in axes.get_xticklabels()]
    lines = [label.get_text() for label in axes.get_yticklabels()]
    order = played.leaderboard()["submission"].tolist()
    assert (columns, lines) == ([n for n in order if n in rates], order[2:])
    assert np.array_equal(np.asarray(axes.images[0].get_array()), rates.loc[lines, columns])
    assert figure._repr_png_().startswith(b"\x89PNG")

    board = played.leaderboard("attack")
    (points,) = (c for c in played.plot.cost().axes[0].collections)
    drawn = np.asarray(points.get_offsets())
    assert drawn[:, 0].tolist() == board["median_seconds_per_100_images"].tolist()
    assert drawn[:, 1].tolist() == board["score"].tolist()

    for name, line in zip(board["submission"], played.plot.budget().axes[0].lines, strict=True):
        scores = played.budgets("attack").query(f"submission == '{name}'")["score"]
        assert line.get_label() == name
        assert np.asarray(line.get_ydata()).tolist() == scores.tolist()
    with pytest.raises(InvalidConfig, match="track: expected one of attack"):
        played.plot.budget("x")


def test_runs_are_compared(played: advcomp.Run, other: advcomp.Run, tmp_path: Path) -> None:
    command = ["compare", str(played.folder), str(other.folder)]
    told = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert told["runs"] == command[1:]
    assert {row["key"]: row["values"] for row in told["settings"]} == {
        "tournament": ['"contest"', '"other"'],
        "threat.max_epsilons": ["[8, 32]", "[32]"],
    }
    assert [row["name"] for row in told["entries"]] == ["darker", "noop"]
    assert [e and e["name"] for e in told["entries"][0]["in_runs"]] == ["darker", "dimmer"]
    assert told["entries"][1]["in_runs"][1] is None
    scores = {row["submission"]: row for row in told["scores"]}
    assert scores["noop"]["differences"] == [None]
    for name, now in (("darker", "dimmer"), ("three", "three")):
        (difference,) = scores[name]["differences"]
        before = played.leaderboard().set_index("submission")["score"][name]
        after = other.leaderboard().set_index("submission")["score"][now]
        assert scores[name]["scores"] == pytest.approx([before, after])
        assert difference["images"] == IMAGES
        assert difference["difference"] == pytest.approx(after - before)
        assert difference["low"] <= difference["difference"] <= difference["high"]
    table = CliRunner().invoke(main, command).stdout
    assert "threat.max_epsilons" in table
    assert ", as dimmer" in table
    assert f"run 2: {other.folder} ({IMAGES} images in common with run 1)" in table
    page = tmp_path / "page.html"
    CliRunner().invoke(main, [*command, "--page", str(page)])
    assert ", as dimmer" in page.read_text()
    frame = played.compare(other).set_index("submission")
    assert list(frame.index) == ["brightness", "three"]  # by name
    (told_of_three,) = scores["three"]["differences"]
    assert frame.loc["three", "low"] == pytest.approx(told_of_three["low"])


def test_a_run_alone_is_not_compared(played: advcomp.Run) -> None:
    done = CliRunner().invoke(main, ["compare", str(played.folder)])
    assert done.exit_code == 1
    assert "expected the folders of two runs or more" in done.stderr


def test_what_the_command_would_print_is_raised(tmp_path: Path) -> None:
    """Line for line, where a file has several faults."""
    file = tmp_path / "round.toml"
    file.write_text('name = "round"\n[threat]\nmax_epsilons = [300]\n')
    with pytest.raises(InvalidConfig) as raised:
        advcomp.run(file)
    printed = CliRunner().invoke(main, ["run", str(file)]).stderr.splitlines()
    assert len(printed) > 1
    assert [line.removeprefix("advcomp: ") for line in printed] == str(raised.value).splitlines()


def test_an_interrupt_returns_the_run_as_far_as_it_is(contest: Contest) -> None:
    slow = contest.entry("slow", f"sleep 1\n{COPY}")
    place = contest.folder / "entries_of_the_test"
    file = contest.file([slow], [place / "three"], max_epsilons=(8,), name="stopped")
    out = contest.folder / "runs" / "stopped"

    def interrupt() -> None:
        while (
            not list(out.glob("referee.log"))
            or "1 jobs to run" not in (out / "referee.log").read_text()
        ):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    Thread(target=interrupt, daemon=True).start()
    run = advcomp.run(file, out=out, jobs=1)
    assert signal.getsignal(signal.SIGINT) is before
    assert not run.is_finished
    assert run._repr_html_().startswith("<p>Provisional: the run is not finished.</p><table")
    assert "three" not in run.jobs()["submission"].tolist()
    assert advcomp.run(file, out=out, jobs=1).is_finished


def test_jobs_are_those_of_verdicts_csv(played: advcomp.Run) -> None:
    stored = rows(played.folder / "results" / "verdicts.csv")
    frame = played.jobs()
    assert frame["job"].tolist() == [row["job"] for row in stored]
    assert set(frame["verdict"]) == {"OK"}


def documented() -> dict[str, dict[str, str]]:
    """By a frame's call, the dtype of every column that the reference names."""
    frames: dict[str, dict[str, str]] = {}
    frame: dict[str, str] = {}
    for row in REFERENCE.read_text().splitlines():
        if found := re.match(r"\| (?:`(\w+)\(\)`)? ?\| (`[^|]+`) \| `([^|]+)` \|", row):
            call, names, dtype = found.groups()
            if call:
                frame = frames.setdefault(call, {})
            frame |= dict.fromkeys(re.findall(r"`(\w+)`", names), dtype)
    return frames


def test_frames_have_the_documented_columns_at_every_point_of_a_run(tmp_path: Path) -> None:
    """With no result, with some, when all attacks have crashed, and without an opponent."""
    folder, crashed = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "crashed")
    for name, max_epsilon in itertools.product(("noop", "fgsm"), (8, 32)):
        crashed.attack(name, max_epsilon, verdict=Verdict.CRASHED)
    expect_documented(folder.run)
    expect_documented(crashed.run)
    change(crashed, scoring=ScoringTable(absence=Absence.DEV_TOOLKIT, bootstrap=20))
    assert advcomp.load_run(crashed.run).leaderboard("attack")["score"].eq(24).all()
    change(crashed, entries=tuple(e for e in crashed.state.entries if e.is_attack))
    expect_documented(crashed.run)
    for draw in ("heatmap", "cost", "budget"):
        assert getattr(advcomp.load_run(crashed.run).plot, draw)()._repr_png_()
    for name, max_epsilon in itertools.product(("noop", "fgsm"), (8, 32)):
        folder.attack(name, max_epsilon)
    folder.plan()
    folder.defend("right", 1)
    expect_documented(folder.run)


def change(folder: RunFolder, **facts: object) -> None:
    """Make another run of it."""
    folder.state = folder.state.model_copy(update=facts)
    save_state(folder.run, folder.state)


def expect_documented(folder: Path) -> None:
    """Columns, dtypes, and that all is drawn."""
    run = advcomp.load_run(folder)
    calls = {"compare": (run,)}
    told = documented()
    assert {"leaderboard", "budgets", "cells", "jobs", "answers", "compare"} == set(told)
    for call, columns in told.items():
        frame = getattr(run, call)(*calls.get(call, ()))
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == columns, call
    assert set(map(str, run.matrix().dtypes)) == {"float64"}
    for track in ("attack", "targeted_attack", "defense"):
        assert run.plot.cost(track).axes
        assert run.plot.budget(track).axes
    assert run.plot.heatmap().axes


def test_images_are_those_that_the_attack_wrote(tmp_path: Path) -> None:
    """Of one that crashed, that has not run, or that a fault of ours stopped: none."""
    folder = RunFolder(tmp_path / "run")
    folder.attack("noop", 8, verdict=Verdict.CRASHED)
    folder.attack("noop", 32, verdict=Verdict.INFRA, png_digests=())
    run = advcomp.load_run(folder.run)
    for attack, max_epsilon in (("noop", 8), ("noop", 32), ("fgsm", 8)):
        adversarial, clean, names = run.images(attack, max_epsilon)
        assert adversarial.shape == clean.shape == (0, 5, 7, 3)
        assert names == ()


def test_without_the_clean_images_their_place_is_named(
    contest: Contest, played: advcomp.Run
) -> None:
    images = contest.folder / "data" / "images"
    with moved_away(images), pytest.raises(InvalidDataset, match=f"^{images}: expected the tourn"):
        played.images("darker", max_epsilon=32)


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    try:
        yield
    finally:
        elsewhere.rename(folder)
