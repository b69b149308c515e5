"""The result files, byte by byte, of a tournament that fits on a page."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.leaderboard import COLUMNS, as_csv, cell, read_leaderboard, read_rows
from advcomp.scoring.publish import write_results
from advcomp.scoring.results import Entry, JobRecord, Results
from advcomp.scoring.scores import Absence
from advcomp.scoring.standings import ScoringOptions
from advcomp.scoring.tables import leaderboard_rows, verdicts_csv

Play = Callable[..., Results]

NO_BOOTSTRAP = ScoringOptions(bootstrap=0)


@pytest.fixture
def results(play: Play) -> Results:
    """Two attacks, one of which leaves an image out; a targeted one; three defenses."""
    attack, targeted, defense = SubmissionType
    return play(
        attacks=[
            Entry(name="noise", type=attack, baseline=True, projected_images=3),
            Entry(name="zap", type=attack, verdict=Verdict.PARTIAL),
            Entry(name="aim", type=targeted, seconds_per_100_images=(3.0, 1.0, 2.5)),
        ],
        defenses=[
            Entry(
                name="broken", type=defense, verdict=Verdict.REJECTED, notes=("no entry point",)
            ),
            Entry(name="oak", type=defense, wave=1, seconds_per_100_images=(1.0, 2.0)),
            Entry(name="reed", type=defense, team="blue", digest="abc"),
        ],
        max_epsilons=(16, 8),
        answers={
            ("noise", "broken"): "....",
            ("noise", "oak"): "====",
            ("noise", "reed"): "x==t",
            ("zap", "broken"): "...!",
            ("zap", "oak"): "xt=!",
            ("zap", "reed"): "xxx!",
            ("aim", "broken"): "....",
            ("aim", "oak"): "tx==",
            ("aim", "reed"): "tt=t",
        },
        clean={"broken": "..", "oak": "==", "reed": "=t"},
    )


def test_leaderboard_csv_byte_by_byte(results: Results, tmp_path: Path) -> None:
    write_results(tmp_path, results, [], NO_BOOTSTRAP, {})
    found = (tmp_path / "leaderboard.csv").read_bytes().decode()
    without_rankings = [
        [value for column, value in row.items() if "pagerank" not in column and column != "nash"]
        for row in csv.DictReader(found.splitlines())
    ]
    assert found.splitlines()[0] == (
        "track,rank,submission,score,score_low,score_high,rank_low,rank_high,worst_case,"
        "gain_over_clean,pagerank,pagerank_2017,nash,clean_accuracy,coverage,images,"
        "projected_images,median_seconds_per_100_images,verdict"
    )
    assert [",".join(row) for row in without_rankings] == [
        "attack,1,zap,0.625000,,,,,0.500000,0.375000,,0.750000,4,0,,PARTIAL",
        "attack,2,noise,0.250000,,,,,0.000000,0.000000,,1.000000,4,3,,OK",
        "targeted_attack,1,aim,0.500000,,,,,0.250000,0.250000,,1.000000,4,0,2.500000,OK",
        "defense,1,oak,0.750000,,,,,0.500000,,1.000000,1.000000,11,,1.500000,OK",
        "defense,2,reed,0.375000,,,,,0.250000,,0.500000,1.000000,11,,,OK",
        "defense,,broken,,,,,,,,,0.000000,11,,,REJECTED",
    ]
    assert "\r" not in found
    assert '"' not in found
    assert found.endswith("\n")


def test_scores_are_integers_where_they_are_counts(results: Results, tmp_path: Path) -> None:
    options = ScoringOptions(absence=Absence.EVAL_INFRA, bootstrap=20)
    standings = write_results(tmp_path, results, [], options, {})
    rows = {row["submission"]: row for row in _rows(tmp_path / "leaderboard.csv")}
    assert rows["zap"]["score"] == "5"
    assert rows["zap"]["worst_case"] == "0.666667"
    for row in rows.values():
        for column in ("score_low", "score_high"):
            assert row[column].isdigit() or row["verdict"] == "REJECTED"
        assert float(row["coverage"]) <= 1
    epsilon = json.loads((tmp_path / "results.json").read_text())["entries"][1]["epsilons"][0]
    assert epsilon == {"max_epsilon": 8, "score": 1, "worst_case": 0.0}
    assert standings.scores.absence is Absence.EVAL_INFRA


def test_matrices_hold_defenses_in_rows_and_every_attack(results: Results, tmp_path: Path) -> None:
    write_results(tmp_path, results, [], NO_BOOTSTRAP, {})
    header = ",noise,zap,aim\n"
    expected = {
        "accuracy_matrix.csv": "broken,0,0,0\noak,4,1,2\nreed,2,0,1\n",
        "error_matrix.csv": "broken,0,0,0\noak,0,2,2\nreed,2,3,3\n",
        "hit_target_class_matrix.csv": "broken,0,0,0\noak,0,1,1\nreed,1,0,3\n",
        "eps-16/accuracy_matrix.csv": "broken,0,0,0\noak,2,0,0\nreed,1,0,0\n",
        "eps-8/error_matrix.csv": "broken,0,0,0\noak,0,0,0\nreed,1,1,1\n",
        "eps-8/hit_target_class_matrix.csv": "broken,0,0,0\noak,0,0,0\nreed,1,0,1\n",
    }
    for name, lines in expected.items():
        assert (tmp_path / name).read_bytes().decode() == header + lines


def test_matrices_do_not_depend_on_the_absence_rule(results: Results, tmp_path: Path) -> None:
    written = []
    for absence in Absence:
        options = ScoringOptions(absence=absence, bootstrap=0)
        write_results(tmp_path / absence, results, [], options, {})
        written.append([p.read_bytes() for p in sorted((tmp_path / absence).rglob("*matrix.csv"))])
    assert len(written[0]) == 9
    assert written[0] == written[1] == written[2]


def test_matrices_count_labels_on_pairs_that_are_not_scored(
    results: Results, tmp_path: Path
) -> None:
    write_results(tmp_path / "all", results, [], NO_BOOTSTRAP, {})
    results.infra_pairs[:] = True
    write_results(tmp_path / "none", results, [], NO_BOOTSTRAP, {})
    for path in sorted((tmp_path / "all").rglob("*matrix.csv")):
        unscored = tmp_path / "none" / path.relative_to(tmp_path / "all")
        assert unscored.read_bytes() == path.read_bytes()
    assert {row["score"] for row in _rows(tmp_path / "none" / "leaderboard.csv")} == {""}


def test_without_target_classes_hits_are_left_empty(play: Play, tmp_path: Path) -> None:
    results = play(
        attacks=[Entry(name="a", type=SubmissionType.ATTACK)],
        defenses=[Entry(name="d", type=SubmissionType.DEFENSE)],
        answers={("a", "d"): "x="},
        clean={"d": "=="},
        target_classes=False,
    )
    write_results(tmp_path, results, [], ScoringOptions(bootstrap=10), {})
    assert (tmp_path / "hit_target_class_matrix.csv").read_text() == ",a\nd,\n"
    assert (tmp_path / "error_matrix.csv").read_text() == ",a\nd,1\n"


@pytest.mark.parametrize(("attacks", "defenses"), [(1, 0), (0, 1), (0, 0)])
def test_a_tournament_of_one_side_has_every_file(
    play: Play, tmp_path: Path, attacks: int, defenses: int
) -> None:
    results = play(
        attacks=[Entry(name="a", type=SubmissionType.ATTACK)][:attacks],
        defenses=[Entry(name="d", type=SubmissionType.DEFENSE)][:defenses],
        answers={("a", "d"): "x="},
        clean={"d": "=="} if defenses else {},
    )
    write_results(tmp_path, results, [], ScoringOptions(bootstrap=10), {})
    rows = _rows(tmp_path / "leaderboard.csv")
    assert [row["submission"] for row in rows] == ["a"] * attacks + ["d"] * defenses
    assert {row["score"] + row["rank"] + row["nash"] + row["pagerank_2017"] for row in rows} <= {
        ""
    }


def test_rows_are_sorted_by_track_then_rank_then_name(play: Play, tmp_path: Path) -> None:
    names = ["b", "a", "d", "c", "e"]
    answers = dict(zip(names, ["x=", "x=", "!!", "!!", "xx"], strict=True))
    results = play(
        attacks=[Entry(name=name, type=SubmissionType.ATTACK) for name in names],
        defenses=[Entry(name="z", type=SubmissionType.DEFENSE)],
        answers={(name, "z"): answer for name, answer in answers.items()},
        clean={"z": "=="},
    )
    rows = leaderboard_rows(write_results(tmp_path, results, [], NO_BOOTSTRAP, {}))
    listed = [(row.submission, row.rank) for row in rows[:5]]
    assert listed == [("e", 1), ("a", 2), ("b", 2), ("c", None), ("d", None)]


JOB = JobRecord(
    job="zap eps 8",
    submission="zap",
    stage="attack",
    epsilon=8,
    shard=0,
    images=2,
    valid=1,
    verdict=Verdict.PARTIAL,
    exit_code=0,
    wall_seconds=1.25,
    cpu_seconds=0.5,
    max_rss_bytes=1024,
)


def test_verdicts_csv_byte_by_byte() -> None:
    other = JobRecord(
        job="oak 1",
        submission="oak",
        stage="defense",
        shard=1,
        images=3,
        valid=0,
        verdict=Verdict.CRASHED,
        signal=9,
        wall_seconds=0.1 + 0.2,
        note="killed, by signal",
    )
    assert verdicts_csv([JOB, other]) == (
        "job,submission,stage,epsilon,shard,images,valid,verdict,exit_code,signal,"
        "wall_seconds,cpu_seconds,max_rss_bytes,note\n"
        "zap eps 8,zap,attack,8,0,2,1,PARTIAL,0,,1.250000,0.500000,1024,\n"
        'oak 1,oak,defense,,1,3,0,CRASHED,,9,0.300000,,,"killed, by signal"\n'
    )


@pytest.mark.parametrize(
    ("note", "written"),
    [
        ("=1+1", "'=1+1"),
        (" \t@x", "'@x"),
        ("-x", "'-x"),
        ("two\nlines\r\n", "two lines"),
        ("\x1b[31mred\udc80", "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"),
        ("a \N{SNOWMAN} = fine", "a \N{SNOWMAN} = fine"),
    ],
)
def test_a_note_is_one_printable_line_and_no_formula(note: str, written: str) -> None:
    line = verdicts_csv([replace(JOB, note=note)]).splitlines()[1]
    assert line == f"zap eps 8,zap,attack,8,0,2,1,PARTIAL,0,,1.250000,0.500000,1024,{written}"
    line.encode()


def test_results_json_holds_all_of_it(results: Results, tmp_path: Path) -> None:
    manifest = {"seed": 3, "machine": {"cores": 2}, "limits": "weak"}
    write_results(tmp_path, results, [JOB], NO_BOOTSTRAP, manifest)
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["provisional"] is False
    assert content["manifest"] == manifest
    assert content["expelled"] == ["zap"]
    assert content["scoring"] == {
        "absence": "paper",
        "opponents": "teams",
        "bootstrap": 0,
        "seed": 0,
    }
    assert content["max_epsilons"] == [8, 16]
    assert content["matrices"]["rows"] == ["broken", "oak", "reed"]
    assert content["matrices"]["columns"] == ["noise", "zap", "aim"]
    assert content["matrices"]["all"]["accuracy_matrix"] == [[0, 0, 0], [4, 1, 2], [2, 0, 1]]
    assert content["matrices"]["eps-8"]["error_matrix"] == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert content["jobs"][0]["verdict"] == "PARTIAL"
    assert content["rankings"]["pagerank"] == {"damping": 0.85}
    entries = {entry["name"]: entry for entry in content["entries"]}
    assert entries["oak"]["wave"] == 1
    assert entries["reed"]["team"] == "blue"
    assert entries["noise"]["baseline"] is True
    assert entries["broken"]["notes"] == ["no entry point"]
    assert {name: entry["verdict"] for name, entry in entries.items()} == {
        each.name: each.verdict for each in (*results.attacks, *results.defenses)
    }
    assert entries["reed"]["epsilons"] == [
        {"max_epsilon": 8, "score": 0.5, "worst_case": 0.5},
        {"max_epsilon": 16, "score": 0.25, "worst_case": 0.0},
    ]


@pytest.mark.parametrize("what", ["pair", "image", "entry"])
def test_a_failure_of_ours_makes_results_provisional(
    results: Results, tmp_path: Path, what: str
) -> None:
    if what == "pair":
        results.infra_pairs[0] = True
    elif what == "image":
        results.infra_images[0] = True
    else:
        entry = replace(results.defenses[1], verdict=Verdict.INFRA)
        results = replace(results, defenses=(results.defenses[0], entry, results.defenses[2]))
    assert write_results(tmp_path, results, [], NO_BOOTSTRAP, {}).provisional
    assert json.loads((tmp_path / "results.json").read_text())["provisional"] is True


def test_the_same_results_give_the_same_bytes(results: Results, tmp_path: Path) -> None:
    options = ScoringOptions(bootstrap=50)
    manifests = [{"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}]
    written = []
    for manifest in manifests:
        write_results(tmp_path, results, [JOB], options, manifest)
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        written.append([(path, path.read_bytes()) for path in files])
    assert written[0] == written[1]
    assert len(written[0]) == 3 * 3 + 3


def test_rows_are_read_back_as_they_were_written(results: Results, tmp_path: Path) -> None:
    write_results(tmp_path, results, [], ScoringOptions(bootstrap=20), {})
    rows = read_rows(tmp_path)
    assert as_csv(rows) == (tmp_path / "leaderboard.csv").read_text()
    assert [row.submission for row in rows if row.baseline] == ["noise"]


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, ""), (3, "3"), (0.5, "0.500000"), (-1e-9, "0.000000"), (2 / 3, "0.666667")],
)
def test_cells_are_written_as_the_rules_say(value: float | None, written: str) -> None:
    assert cell(value) == written


def test_the_columns_are_those_of_the_rules() -> None:
    assert len(COLUMNS) == 19
    assert "baseline" not in COLUMNS


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize("others", [False, True])
def test_own_pairs_are_listed_as_estimated_where_others_were_played_and_as_left_out_otherwise(
    play: Play, tmp_path: Path, others: bool
) -> None:
    """Of two teams with an attack and a defense each, nothing tells the strong from the weak."""
    attack, _, defense = SubmissionType
    attacks = [Entry(name=f"a-{team}", type=attack, team=team) for team in ("red", "blue")]
    defenses = [Entry(name=f"d-{team}", type=defense, team=team) for team in ("red", "blue")]
    if others:
        attacks.append(Entry(name="a-other", type=attack))
        defenses.append(Entry(name="d-other", type=defense))
    results = play(
        attacks=attacks,
        defenses=defenses,
        answers={(a.name, d.name): "x=" for a in attacks for d in defenses},
        clean={d.name: "==" for d in defenses},
    )
    write_results(tmp_path, results, [], NO_BOOTSTRAP, {})
    own = [["a-red", "d-red"], ["a-blue", "d-blue"], ["d-red", "a-red"], ["d-blue", "a-blue"]]
    assert json.loads((tmp_path / "results.json").read_text())["own_pairs"] == {
        "estimated": own if others else [],
        "left_out": [] if others else own,
    }


def test_what_was_left_out_is_said_with_the_ranks_that_it_changed(tmp_path: Path) -> None:
    content = {
        "leaderboard": [],
        "left_out": [
            {"name": "zap", "ranks_without_and_with_it": {"oak": [2, 1], "reed": [1, None]}},
            {"name": "aim", "ranks_without_and_with_it": {}},
        ],
        "own_pairs": {"left_out": [["oak", "zap"], ["zap", "oak"]]},
        "scoring": {"opponents": "teams"},
    }
    (tmp_path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_leaderboard(tmp_path)[1] == [
        "incomplete: zap scores nobody; so oak has rank 2 (with it: 1), reed has rank 1"
        " (with it: none)",
        "incomplete: aim scores nobody; that changed no rank",
        "left out, as no played pairs connect them: own pairs of oak, zap",
    ]


def test_what_was_left_out_of_a_run_is_said(results: Results, tmp_path: Path) -> None:
    write_results(tmp_path, results, [replace(JOB, cpu_seconds=None)], NO_BOOTSTRAP, {})
    (line,) = read_leaderboard(tmp_path)[1]
    assert line.startswith("incomplete: zap scores nobody; ")
