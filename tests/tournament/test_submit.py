"""Submissions from the command line into a real, tiny tournament."""

import csv
import shutil
import tomllib
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.command import advcomp
from support.contest import BRIGHTNESS, CONSTANT, COPY, Contest, write_greys

from advcomp.cli import STARTERS
from advcomp.errors import InvalidConfig
from advcomp.rules.folders import digest_folder
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.tournament.competitor.submit import Offer, keep
from advcomp.tournament.competitor.validate import Target
from advcomp.tournament.config import load_tournament
from advcomp.tournament.entry.entries import EntrySource
from advcomp.tournament.store.state import EntryState

FAILING = "exit 3"


@pytest.fixture
def file(contest: Contest) -> Path:
    """A tournament of one budget without entries of its own."""
    return contest.file([], [], max_epsilons=[8])


def submitted(file: Path) -> list[dict[str, str]]:
    path = file.parent / "entries" / "entries.toml"
    entries: list[dict[str, str]] = (
        tomllib.loads(path.read_text())["entry"] if path.exists() else []
    )
    return entries


def archives(file: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in (file.parent / "entries").glob("*.zip")}


def leaderboard(results: Path | None) -> dict[str, dict[str, str]]:
    assert results is not None
    with (results / "leaderboard.csv").open(newline="") as table:
        return {row["submission"]: row for row in csv.DictReader(table)}


def test_starters_are_submitted_and_play(contest: Contest, file: Path) -> None:
    for kind in STARTERS:
        assert advcomp("init", kind, contest.folder / kind).exit_code == 0
        result = advcomp("submit", contest.folder / kind, file)
        assert result.exit_code == 0, result.output
    rows = leaderboard(contest.run(file).results)
    assert {name: (row["track"], row["verdict"]) for name, row in rows.items()} == {
        kind: (kind.replace("-", "_"), Verdict.OK) for kind in STARTERS
    }


def test_a_submission_is_kept_as_an_archive_and_a_table(contest: Contest, file: Path) -> None:
    folder = contest.entry("mine", COPY)
    result = advcomp("submit", folder, file, "--name", "alice", "--team", 'the "reds" ü')
    digest = digest_folder(folder)
    assert result.exit_code == 0, result.output
    assert f"submitted: {file.parent}/entries/alice-{digest[:12]}.zip\n" in result.output
    assert submitted(file) == [
        {
            "name": "alice",
            "team": 'the "reds" ü',
            "kind": "attack",
            "archive": f"alice-{digest[:12]}.zip",
            "digest": digest,
        }
    ]
    assert list(archives(file)) == [f"alice-{digest[:12]}.zip"]


def test_the_name_is_the_base_name_unless_one_is_given(contest: Contest, file: Path) -> None:
    packed = shutil.make_archive(str(contest.folder / "bob"), "zip", contest.entry("mine", COPY))
    assert advcomp("submit", packed, file).exit_code == 0
    assert [entry["name"] for entry in submitted(file)] == ["bob"]


def test_the_same_content_gives_the_same_bytes_wherever_it_comes_from(
    contest: Contest, file: Path
) -> None:
    """A folder, and an archive of it in which no file may be executed."""
    folder = contest.entry("mine", COPY)
    assert advcomp("submit", folder, file).exit_code == 0
    kept = archives(file)
    shutil.rmtree(file.parent / "entries")
    (folder / "run.sh").chmod(0o600)
    packed = contest.folder / "other.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.write(path, f"mine/{path.name}")
    assert advcomp("submit", packed, file, "--name", "mine").exit_code == 0
    assert archives(file) == kept


def test_the_same_submission_again_changes_nothing(contest: Contest, file: Path) -> None:
    folder = contest.entry("mine", COPY)
    assert advcomp("submit", folder, file, "--team", "red").exit_code == 0
    before = (file.parent / "entries" / "entries.toml").read_bytes()
    result = advcomp("submit", folder, file, "--team", "red")
    assert result.exit_code == 0
    assert "was submitted already: " in result.output
    assert (file.parent / "entries" / "entries.toml").read_bytes() == before


def test_the_latest_of_a_name_counts_and_an_older_one_may_come_back(
    contest: Contest, file: Path
) -> None:
    attack, defense = contest.entry("one", COPY), contest.entry("two", BRIGHTNESS, "defense")
    for path in (attack, defense, attack):
        assert advcomp("submit", path, file, "--name", "mine").exit_code == 0
    assert [entry["kind"] for entry in submitted(file)] == ["attack", "defense", "attack"]
    assert len(archives(file)) == 2
    assert leaderboard(contest.run(file).results)["mine"]["track"] == "attack"


def test_what_stands_in_the_list_is_kept_to_the_byte(contest: Contest, file: Path) -> None:
    assert advcomp("submit", contest.entry("one", COPY), file).exit_code == 0
    table = file.parent / "entries" / "entries.toml"
    old = b"# by hand\r\n" + table.read_bytes().rstrip() + b" # no end of line"
    table.write_bytes(old)
    assert advcomp("submit", contest.entry("two", BRIGHTNESS, "defense"), file).exit_code == 0
    assert table.read_bytes().startswith(old)
    assert [entry["name"] for entry in submitted(file)] == ["one", "two"]


def keep_as(name: str, team: str | None, copy: Path, file: Path) -> None:
    """Keep what was offered and validated before."""
    source = EntrySource(path=copy, name=name, role=None, team=team)
    target = Target(tournament=load_tournament(file), sources=(source,), height=5, width=7)
    entry = EntryState(
        name=name,
        type=SubmissionType.ATTACK,
        source=str(copy),
        team=team,
        digest=digest_folder(copy),
    )
    keep(Offer(source=source, target=target, targets=True), entry, copy)


def test_submissions_kept_at_once_all_stay(contest: Contest, file: Path) -> None:
    copy = contest.entry("mine", COPY)
    names = [f"entry-{number}" for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: keep_as(name, None, copy, file), names))
    assert sorted(entry["name"] for entry in submitted(file)) == sorted(names)
    assert len(archives(file)) == len(names)


def test_a_name_that_was_given_away_during_validation_is_refused(
    contest: Contest, file: Path
) -> None:
    copy = contest.entry("mine", COPY)
    keep_as("mine", "red", copy, file)
    with pytest.raises(InvalidConfig, match='"mine" was submitted by the team "red"'):
        keep_as("mine", "blue", copy, file)
    assert [entry["team"] for entry in submitted(file)] == ["red"]


def test_a_submission_that_breaks_the_contract_is_refused_with_all_problems(
    contest: Contest, file: Path
) -> None:
    folder = contest.entry("broken", COPY, kind="atack", entry_point="nowhere.sh")
    result = advcomp("submit", folder, file)
    assert result.exit_code == 1
    assert '"type" must be one of' in result.output
    assert '"entry_point" must be' in result.output
    assert submitted(file) == []


def test_a_submission_that_fails_its_trial_is_refused(contest: Contest, file: Path) -> None:
    result = advcomp("submit", contest.entry("failing", FAILING), file)
    assert result.exit_code == 1
    assert str(Verdict.CRASHED) in result.output
    assert not archives(file)


def test_a_submission_is_tried_within_the_limits_of_the_tournament(contest: Contest) -> None:
    file = contest.file([], [], max_epsilons=[3, 5], more="[limits]\nstart_seconds = 0.25\n")
    asks = f'[ "$3" = 3 ] || [ "$3" = 5 ] || exit 9\n{COPY}\nsleep 60'
    more = "seconds_per_100_images = 0.25\n"
    file.write_text(file.read_text() + more)
    result = advcomp("submit", contest.entry("slow", asks), file)
    assert result.exit_code == 1
    assert result.output.count(str(Verdict.TIMED_OUT)) >= 2


def test_a_name_and_a_team_that_cannot_be_are_refused_together(
    contest: Contest, file: Path
) -> None:
    result = advcomp(
        "submit", contest.entry("mine", COPY), file, "--name", "a b", "--team", "red\n"
    )
    assert result.exit_code == 1
    assert 'expected a name of 1 to 64 letters, digits, ".", "_" and "-"' in result.output
    assert "--team: expected a team's name" in result.output


def test_the_name_of_an_entry_of_the_tournament_is_refused(contest: Contest) -> None:
    folder = contest.entry("taken", COPY)
    file = contest.file([], [contest.entry("three", CONSTANT, "defense")])
    result = advcomp("submit", folder, file, "--name", "three")
    assert result.exit_code == 1
    assert '"three" is the name of the entry' in result.output
    assert submitted(file) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [(["--team", "red"], ["--team", "blue"]), (["--team", "red"], []), ([], ["--team", "red"])],
)
def test_the_name_of_another_team_is_refused(
    contest: Contest, file: Path, first: list[str], second: list[str]
) -> None:
    folder = contest.entry("mine", COPY)
    assert advcomp("submit", folder, file, *first).exit_code == 0
    result = advcomp("submit", folder, file, *second)
    assert result.exit_code == 1
    assert '"mine" was submitted by ' in result.output
    assert len(submitted(file)) == 1


def test_a_targeted_attack_is_refused_where_there_are_no_target_classes(
    contest: Contest, file: Path
) -> None:
    shutil.rmtree(contest.folder / "data")
    write_greys(contest.folder / "data", 6, targets=False)
    result = advcomp("submit", contest.entry("aiming", COPY, "targeted_attack"), file)
    assert result.exit_code == 1
    assert "has no column TargetClass" in result.output
    assert submitted(file) == []


def test_a_list_that_is_wrong_is_left_alone(contest: Contest, file: Path) -> None:
    table = file.parent / "entries" / "entries.toml"
    table.parent.mkdir()
    table.write_text('[[entry]]\nname = "x"\n')
    result = advcomp("submit", contest.entry("mine", COPY), file)
    assert result.exit_code == 1
    assert f"{table}:1: [entry][0] archive: missing" in result.output
    assert table.read_text() == '[[entry]]\nname = "x"\n'


def test_an_archive_that_was_changed_afterwards_is_rejected(contest: Contest, file: Path) -> None:
    """Its line says another digest, though the archive is a valid submission."""
    for path in (contest.entry("mine", COPY), contest.entry("light", BRIGHTNESS, "defense")):
        assert advcomp("submit", path, file).exit_code == 0
    (archive,) = (file.parent / "entries").glob("mine-*.zip")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("extra.txt", "not what was submitted")
    table = file.parent / "entries" / "entries.toml"
    honest = table.read_text()
    table.write_text(honest.replace('kind = "attack"', 'kind = "targeted_attack"'))
    rows = leaderboard(contest.run(file).results)
    assert (rows["mine"]["verdict"], rows["mine"]["track"]) == (
        Verdict.REJECTED,
        "targeted_attack",
    )
    table.write_text(honest)
    assert rows["light"]["verdict"] == Verdict.OK
    assert advcomp("submit", contest.folder / "entries_of_the_test" / "mine", file).exit_code == 0
    assert leaderboard(contest.run(file).results)["mine"]["verdict"] == Verdict.OK
