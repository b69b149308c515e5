"""Whole tournaments of small programs in real boxes."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import advcomp
from support.contest import BRIGHTNESS, CONSTANT, COPY, DARKER, IMAGES, Contest, write_greys
from support.tables import tables

from advcomp.errors import InvalidConfig, InvalidDataset, RunConflict
from advcomp.rules.verdict import Verdict
from advcomp.tournament.runner import rescore, take_out


def matrix(results: Path, name: str = "accuracy_matrix") -> dict[str, dict[str, int]]:
    with (results / f"{name}.csv").open(newline="") as file:
        return {
            row.pop(""): {name: int(cell) for name, cell in row.items()}
            for row in csv.DictReader(file)
        }


def leaderboard(results: Path) -> dict[str, dict[str, str]]:
    with (results / "leaderboard.csv").open(newline="") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


def standard(contest: Contest, **options: object) -> Path:
    """Two attacks, two defenses: image k has label k; darker by 32 makes it k - 1, but for 0."""
    return contest.file(
        [contest.entry("noop", COPY), contest.entry("darker", DARKER)],
        [
            contest.entry("brightness", BRIGHTNESS, "defense"),
            contest.entry("constant", CONSTANT, "defense"),
        ],
        **options,  # type: ignore[arg-type]
    )


def test_a_tournament_gives_the_scores_worked_out_by_hand(contest: Contest) -> None:
    """Darker by 8 changes no answer; by 32 all but image 0's. `constant` is right on image 3."""
    done = contest.run(standard(contest))
    assert done.results is not None
    assert not done.provisional
    assert matrix(done.results) == {
        "brightness": {"darker": 6 + 1, "noop": 12},
        "constant": {"darker": 2, "noop": 2},
    }
    assert matrix(done.results / "eps-32") == {
        "brightness": {"darker": 1, "noop": 6},
        "constant": {"darker": 1, "noop": 1},
    }
    scores = {name: row["score"] for name, row in leaderboard(done.results).items()}
    assert scores == {
        "darker": f"{15 / 24:.6f}",
        "noop": f"{10 / 24:.6f}",
        "brightness": f"{19 / 24:.6f}",
        "constant": f"{4 / 24:.6f}",
    }
    assert leaderboard(done.results)["brightness"]["clean_accuracy"] == "1.000000"


@pytest.mark.parametrize("schedule", ["grid", "round-robin"])
def test_every_view_gives_the_same_labels(contest: Contest, schedule: str) -> None:
    file = standard(contest, schedule=schedule)
    found = []
    for view in ("latin", "pooled", "per-attack"):
        file.write_text(re.sub(r'view = "\S+"', f'view = "{view}"', file.read_text()))
        done = contest.run(file, out=contest.folder / "runs" / view)
        assert done.results is not None
        found.append({**tables(done.results), "verdicts.csv": 0, "results.json": 0})
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_round_robin_gives_each_batch_of_100_images_one_budget(tmp_path: Path) -> None:
    """Batches 0 and 2 have budget 8, batch 1 has 32; 35 of its images become dark for 0."""
    write_greys(tmp_path / "data", 250)
    contest = Contest(tmp_path)
    done = contest.run(standard(contest, schedule="round-robin"))
    assert done.results is not None
    zeros = sum(k % 7 == 0 for k in range(100, 200))
    assert matrix(done.results)["brightness"] == {"darker": 150 + zeros, "noop": 250}
    assert matrix(done.results / "eps-32")["brightness"] == {"darker": zeros, "noop": 100}
    assert leaderboard(done.results)["darker"]["images"] == "250"


def test_a_finished_run_runs_nothing_and_score_gives_the_same_bytes(contest: Contest) -> None:
    file = standard(contest)
    done = contest.run(file)
    assert done.results is not None
    before = {path: path.read_bytes() for path in done.results.rglob("*.*")}
    again = contest.run(file)
    assert contest.watcher.stages == [("attacks", 0, 4), ("defenses", 0, 10)]
    assert "nothing has changed since" in (done.run / "referee.log").read_text()
    assert {path: path.read_bytes() for path in done.results.rglob("*.*")} == before
    for path in before:
        path.unlink()
    assert rescore(again.run).results == done.results
    assert {path: path.read_bytes() for path in done.results.rglob("*.*")} == before


def test_what_a_finished_run_holds_is_looked_at_and_damage_is_mended(contest: Contest) -> None:
    file = contest.file([contest.entry("noop", COPY)], [], max_epsilons=(8,))
    done = contest.run(file)
    assert done.results is not None
    assert advcomp("verify", done.run).output == (
        "1 result, 1 copy of entries: all are what was written\n"
    )
    before = tables(done.results)
    (archive,) = done.run.glob("jobs/*/images.zip")
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"?")
    told = advcomp("verify", done.run)
    assert told.exit_code == 1
    assert f"  {archive.parent}\n" in told.output
    assert archive.exists()
    contest.run(file)
    assert archive.read_bytes() == content
    assert tables(done.results) == before
    (done.results / "leaderboard.csv").unlink()
    contest.run(file)
    assert tables(done.results) == before
    archive.write_bytes(content[:-1] + b"?")
    assert advcomp("verify", done.run, "--drop").exit_code == 1
    assert not (archive.parent / "result.json").exists()


def test_two_runs_differ_in_nothing_but_measured_times(contest: Contest) -> None:
    file = standard(contest)
    one = contest.run(file, out=contest.folder / "one")
    two = contest.run(file, out=contest.folder / "two", jobs=1)
    assert one.results is not None
    assert two.results is not None
    assert tables(one.results) == tables(two.results)


def test_a_new_entry_runs_only_what_is_its_own(contest: Contest) -> None:
    noop, darker = contest.entry("noop", COPY), contest.entry("darker", DARKER)
    constant = contest.entry("constant", CONSTANT, "defense")
    brightness = contest.entry("brightness", BRIGHTNESS, "defense")
    first = contest.run(contest.file([noop], [constant]))
    assert first.results is not None
    attack_added = contest.run(contest.file([noop, darker], [constant]))
    assert attack_added.results is not None
    # Two budgets, then a wave of its own: two columns and the clean images.
    assert contest.watcher.stages == [("attacks", 2, 2), ("defenses", 3, 3)]
    entries = json.loads((attack_added.results / "results.json").read_text())["entries"]
    waves = {entry["name"]: entry["wave"] for entry in entries}
    assert waves == {"noop": 1, "darker": 2, "constant": 1}
    defense_added = contest.run(contest.file([noop, darker], [constant, brightness]))
    assert contest.watcher.stages == [("attacks", 0, 4), ("defenses", 6, 6)]
    assert {result.submission for result in contest.watcher.results} == {"brightness"}
    assert defense_added.results is not None
    fresh = contest.run(
        contest.file([noop, darker], [constant, brightness]), out=contest.folder / "fresh"
    )
    assert fresh.results is not None
    assert matrix(fresh.results) == matrix(defense_added.results)
    contest.run(contest.file([noop, darker], [constant, brightness]), replan=True)
    assert contest.watcher.stages == [("attacks", 0, 4), ("defenses", 10, 0)]


def test_a_changed_entry_runs_again(contest: Contest) -> None:
    file = standard(contest)
    contest.run(file)
    program = contest.folder / "entries_of_the_test" / "constant" / "run.sh"
    program.write_text(program.read_text().replace("3", "4"))
    done = contest.run(file)
    assert contest.watcher.stages == [("attacks", 0, 4), ("defenses", 5, 5)]
    assert done.results is not None
    assert matrix(done.results)["constant"] == {"darker": 2, "noop": 2}


def test_a_rerun_attack_with_other_images_becomes_a_wave_of_its_own(contest: Contest) -> None:
    random = contest.entry(
        "random",
        """\
        #!/usr/bin/env python3
        import random, sys
        from pathlib import Path
        from PIL import Image
        for path in Path(sys.argv[1]).glob("*.png"):
            size = Image.open(path).size
            # Black and white stay apart within any budget: a bit for every value of a pixel.
            noise = bytes(random.choices((0, 255), k=3 * size[0] * size[1]))
            Image.frombytes("RGB", size, noise).save(Path(sys.argv[2]) / path.name)
        """,
    )
    file = contest.file(
        [random, contest.entry("noop", COPY)], [contest.entry("c", CONSTANT, "defense")]
    )
    done = contest.run(file)
    assert take_out(done.run, "random") == 2
    again = contest.run(file)
    assert contest.watcher.stages == [("attacks", 2, 2), ("defenses", 3, 5)]
    assert take_out(done.run, "noop") == 2
    contest.run(file)
    assert contest.watcher.stages == [("attacks", 2, 2), ("defenses", 0, 8)]
    assert again.results is not None
    assert matrix(again.results)["c"] == {"noop": 2, "random": 2}
    with pytest.raises(InvalidConfig, match='no entry "nobody"; there are c, noop, random'):
        take_out(done.run, "nobody")


def test_a_broken_entry_is_rejected_and_listed_and_stops_nothing(contest: Contest) -> None:
    broken = contest.entry("broken", COPY, kind="atack", entry_point="../away.sh")
    (broken / "hosts").symlink_to("/etc/hosts")
    wrong_list = contest.entry("wrong_list", CONSTANT, "defense")
    in_the_way = contest.entry("in_the_way", COPY)
    (in_the_way / "weights").mkdir()
    overlaid = {"path": str(in_the_way), "files": {"weights": "contest.toml"}}
    file = contest.file(
        [contest.entry("noop", COPY), broken, wrong_list, overlaid],
        [contest.entry("constant", CONSTANT, "defense")],
    )
    done = contest.run(file)
    assert done.results is not None
    rows = leaderboard(done.results)
    names = ("noop", "broken", "wrong_list", "in_the_way")
    assert [rows[n]["verdict"] for n in names] == ["OK", *["REJECTED"] * 3]
    assert rows["broken"]["rank"] == ""
    entries = json.loads((done.results / "results.json").read_text())["entries"]
    notes = {entry["name"]: "\n".join(entry["notes"]) for entry in entries}
    assert '"type" must be one of' in notes["broken"]
    assert "entry_point" in notes["broken"]
    assert "leads out of the submission" in notes["broken"]
    assert "entered as attack" in notes["wrong_list"]
    assert '"files": "weights": is a folder of the submission' in notes["in_the_way"]


def test_outputs_count_whatever_the_verdict(contest: Contest) -> None:
    """An attack that dies after half its images keeps them; so does one that is killed."""
    half = f'for f in $(ls "$1" | head -n {IMAGES // 2}); do cp "$1/$f" "$2"; done'
    file = contest.file(
        [
            contest.entry("crashes", f"{half}; exit 3"),
            contest.entry("hangs", f"{half}; sleep 100"),
            contest.entry("partial", f"{half}; touch $2/more; mkdir $2/folder"),
            contest.entry("silent", "true"),
            contest.entry("full", f'{half}; cat /dev/zero > "$2/zeros"'),
        ],
        [contest.entry("brightness", BRIGHTNESS, "defense")],
        max_epsilons=[8],
        more="[limits]\nstart_seconds = 3\nseconds_per_100_images = 1\noutput = '2 MiB'\n",
    )
    done = contest.run(file)
    assert done.results is not None
    verdicts = {result.submission: result for result in contest.watcher.results}
    expected = {
        "crashes": Verdict.CRASHED,
        "hangs": Verdict.TIMED_OUT,
        "partial": Verdict.PARTIAL,
        "silent": Verdict.BAD_OUTPUT,
        "full": Verdict.OUTPUT_LIMIT,
        "brightness": Verdict.OK,
    }
    assert {name: result.verdict for name, result in verdicts.items()} == expected
    assert verdicts["crashes"].exit_code == 3
    assert any("ignored 2 unexpected" in note for note in verdicts["partial"].notes)
    logs = b"".join(path.read_bytes() for path in done.run.glob("jobs/*/log"))
    assert b"[ignored in the output folder: 'folder', 'more']\n" in logs
    assert any(note.startswith("missing 3 of 6: img-") for note in verdicts["partial"].notes)
    assert matrix(done.results)["brightness"] == {
        name: 0 if name == "silent" else 3
        for name in ("crashes", "full", "hangs", "partial", "silent")
    }
    assert leaderboard(done.results)["silent"]["rank"] == ""
    assert leaderboard(done.results)["brightness"]["score"] == ""


def test_an_image_beyond_its_budget_is_projected_and_counted(contest: Contest) -> None:
    too_dark = DARKER.replace("int(sys.argv[3])", "int(sys.argv[3]) - 1")
    file = contest.file(
        [contest.entry("too_dark", too_dark)],
        [contest.entry("brightness", BRIGHTNESS, "defense")],
        max_epsilons=[31],
    )
    done = contest.run(file)
    assert done.results is not None
    # Darker by 32 instead of 31: image 0 (20) becomes 0 both ways, the others change.
    assert leaderboard(done.results)["too_dark"]["projected_images"] == str(IMAGES - 1)


def test_a_targeted_attack_is_told_its_targets_and_scored_by_hits(contest: Contest) -> None:
    """The target class of image k > 0 is k - 1, which darker by 32 reaches."""
    check = DARKER.replace(
        "for path",
        "targets = dict(l.split(',') for l in Path(sys.argv[1], 'target_class.csv').open())\n"
        "assert sorted(targets) == sorted(p.name for p in Path(sys.argv[1]).glob('*.png'))\n"
        "for path",
    )
    file = contest.file(
        [contest.entry("darker", check, "targeted_attack")],
        [contest.entry("brightness", BRIGHTNESS, "defense")],
    )
    done = contest.run(file)
    assert done.results is not None
    assert matrix(done.results, "hit_target_class_matrix") == {"brightness": {"darker": 5}}
    row = leaderboard(done.results)["darker"]
    assert (row["track"], row["score"]) == ("targeted_attack", f"{5 / 12:.6f}")
    metadata = contest.folder / "entries_of_the_test" / "darker" / "metadata.json"
    make = contest.folder / "data" / "images.csv"
    lines = [line.rsplit(",", 1)[0] for line in make.read_text().splitlines()]
    make.write_text("\n".join(lines) + "\n")
    with pytest.raises(InvalidDataset, match="column TargetClass, since darker"):
        contest.run(file, out=contest.folder / "other")
    metadata.write_text("{}")
    assert contest.run(file, out=contest.folder / "rejected").results is not None


def test_other_settings_are_refused_in_the_same_folder(contest: Contest) -> None:
    file = standard(contest)
    contest.run(file)
    standard_text = file.read_text()
    file.write_text(standard_text.replace("[8, 32]", "[8]").replace("latin", "pooled"))
    with pytest.raises(RunConflict) as refused:
        contest.run(file)
    assert "[threat] max_epsilons: was [8, 32], is now [8]" in str(refused.value)
    assert '[defense] view: was "latin", is now "pooled"' in str(refused.value)
    file.write_text(standard_text)
    labels = contest.folder / "data" / "images.csv"
    before = labels.read_text()
    labels.write_text(before.replace("img-0000,0,6", "img-0000,1,6"))
    with pytest.raises(RunConflict, match=r"\[dataset\] digest"):
        contest.run(file)
    labels.write_text(before)
    file.write_text(standard_text + '[scoring]\nabsence = "dev-toolkit"\n')
    done = contest.run(file)
    assert [stage[1] for stage in contest.watcher.stages] == [0, 0]
    assert done.results is not None
    assert leaderboard(done.results)["darker"]["score"] == "15"


def test_what_every_submission_could_read_is_refused(contest: Contest) -> None:
    with pytest.raises(InvalidConfig, match=r"the run's folder: .* every submission can read"):
        contest.run(standard(contest), out=Path(sys.prefix) / "runs")
    assert not (Path(sys.prefix) / "runs").exists()


def test_labels_cannot_be_found_in_any_file_that_an_entry_can_open(contest: Contest) -> None:
    """An entry reads every file of the box for ImageIds, a canary and the digits' labels."""
    canary = "canary-of-the-organiser"
    (contest.folder / "data" / "canary").write_text(canary)
    searcher = contest.entry(
        "searcher",
        """\
        #!/usr/bin/env python3
        import os, sys
        words = [b"img-" + b"0001", b"canary-of-" + b"the-organiser"]
        for root, folders, files in os.walk("/"):
            folders[:] = [f for f in folders if os.path.join(root, f) not in ("/sys", "/usr")]
            for name in files:
                path = os.path.join(root, name)
                if "digits.csv" in name:
                    print("FOUND", path)
                if name.endswith((".py", ".pyc", ".pyi", ".h", ".hpp", ".cuh", ".so")):
                    continue
                try:
                    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                    data = os.read(file, 1 << 20)
                    os.close(file)
                except OSError:
                    continue
                if any(word in data for word in words):
                    print("FOUND", path)
        print("SEARCHED")
        """,
    )
    file = contest.file(
        [searcher],
        [contest.entry("constant", CONSTANT, "defense")],
        max_epsilons=[8],
        more="[limits]\nstart_seconds = 300\n",
    )
    done = contest.run(file)
    logs = b"".join(path.read_bytes() for path in done.run.glob("jobs/*/log"))
    assert b"SEARCHED" in logs
    assert b"FOUND" not in logs


def test_a_killed_run_goes_on_and_ends_like_an_uninterrupted_one(contest: Contest) -> None:
    """SIGKILL at a dozen moments: as soon as another job is stored, or later and later."""
    file = standard(contest)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from support.contest import Contest\n"
        "Contest(Path(sys.argv[2])).run(Path(sys.argv[3]), out=Path(sys.argv[4]))\n"
    )
    out = contest.folder / "killed"
    command = [sys.executable, "-c", program, str(Path(__file__).parents[1])]
    command += [str(contest.folder), str(file), str(out)]

    def stored() -> int:
        return len(list((out / "jobs").glob("[!.]*")))

    kills = 0
    for attempt in range(12):
        before = stored()
        process = subprocess.Popen(command)
        while process.poll() is None and stored() == before:
            time.sleep(0.01)
        time.sleep(0.02 * attempt)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 5
    killed = contest.run(file, out=out)
    whole = contest.run(file, out=contest.folder / "whole")
    assert killed.results is not None
    assert whole.results is not None
    assert tables(killed.results) == tables(whole.results)
    assert not (out / "staging").exists()
    assert [path for path in (out / "jobs").iterdir() if path.name.startswith(".")] == []


def test_an_unfinished_run_has_no_scores_yet(contest: Contest) -> None:
    done = contest.run(standard(contest))
    take_out(done.run, "constant")
    with pytest.raises(RunConflict, match="5 jobs have no result; `advcomp run"):
        rescore(done.run)
    with pytest.raises(RunConflict, match=r"expected the folder of a run \(with run.json\)"):
        rescore(contest.folder)
