"""A run in a notebook: frames against the result files, images against the store."""

import csv
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import Require
from support.contest import BRIGHTNESS, CONSTANT, COPY, DARKER, Contest, write_greys

import advcomp
from advcomp.errors import InvalidConfig, RunConflict
from advcomp.notebook.frames import ANSWERS, answer_batches

IMAGES = 6


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, require: Require) -> advcomp.Run:
    require("bubblewrap")
    folder: Path = tmp_path_factory.mktemp("played")
    write_greys(folder / "data", IMAGES)
    contest = Contest(folder)
    file = contest.file(
        [contest.entry("noop", COPY), contest.entry("darker", DARKER)],
        [
            contest.entry("brightness", BRIGHTNESS, "defense"),
            contest.entry("three", CONSTANT, "defense"),
        ],
    )
    return advcomp.run(file, out=folder / "runs" / "contest", jobs=2)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


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
    assert "<table" in again._repr_html_()
    with pytest.raises(RunConflict, match="expected the folder of a run"):
        advcomp.load_run(tmp_path)


def test_jobs_are_those_of_verdicts_csv(played: advcomp.Run) -> None:
    stored = rows(played.folder / "results" / "verdicts.csv")
    frame = played.jobs()
    assert frame["job"].tolist() == [row["job"] for row in stored]
    assert set(frame["verdict"]) == {"OK"}
