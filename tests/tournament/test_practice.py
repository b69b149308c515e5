"""`practice`: one's own entry, a few others and the referee of a tournament, at home."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from support.command import advcomp
from support.contest import CONSTANT, COPY, SMALL, Contest

from advcomp.errors import InvalidConfig
from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.competitor.practice import ATTACKS, DEFENSES, SAMPLES, Practice
from advcomp.tournament.competitor.practice_file import write_tournament
from advcomp.tournament.competitor.validate import Target
from advcomp.tournament.config import load_tournament
from advcomp.tournament.entry.entries import EntrySource, Role, listed_entries
from advcomp.tournament.store.state import EntryState

ROOT = Path(__file__).resolve().parents[2]
ATTACK, TARGETED, DEFENSE = SubmissionType


def entry(kind: SubmissionType, name: str = "mine", container: str | None = None) -> EntryState:
    return EntryState(name=name, type=kind, source="mine", digest="d", container=container)


def prepared(name: str = "mine", *picked: str, few: bool = True) -> Practice:
    """A practice among the samples, as `prepare` makes it."""
    tournament = load_tournament(ROOT / SAMPLES)
    source = EntrySource(path=ROOT / "mine", name=name, role=None)
    return Practice(
        target=Target(tournament=tournament, sources=(source,), height=32, width=32),
        run=ROOT / "nowhere",
        listed=listed_entries(tournament).sources,
        picked=picked,
        few=few,
    )


def names(practice: Practice, kind: SubmissionType) -> tuple[list[str], list[str]]:
    """The attacks and the defenses that play."""
    players = practice.players(entry(kind, practice.source.name))
    attacks, defenses = ([e.name for e in players[r]] for r in (Role.ATTACK, Role.DEFENSE))
    return attacks, defenses


def test_an_entry_meets_samples_of_the_other_track_and_is_ranked_with_those_of_its_own() -> None:
    for kind in (ATTACK, TARGETED):
        attacks, defenses = names(prepared(), kind)
        assert (set(attacks), attacks[-1]) == ({*ATTACKS[kind], "mine"}, "mine")
        assert set(defenses) == set(DEFENSES)
    attacks, defenses = names(prepared(), DEFENSE)
    assert set(attacks) == set(ATTACKS[DEFENSE])
    assert (set(defenses), defenses[-1]) == ({*DEFENSES, "mine"}, "mine")


def test_all_of_a_file_play_unless_opponents_are_named() -> None:
    attacks, defenses = names(prepared(few=False), ATTACK)
    assert len(attacks) == 8 + 1
    assert len(defenses) == 5
    attacks, defenses = names(prepared("mine", "jpeg", "plain", few=False), ATTACK)
    assert len(attacks) == 8 + 1
    assert set(defenses) == {"jpeg", "plain"}
    assert set(names(prepared("mine", "jpeg"), ATTACK)[1]) == {"jpeg"}


def test_a_version_of_a_listed_entry_takes_its_place() -> None:
    attacks, _ = names(prepared("fgsm"), ATTACK)
    assert attacks.count("fgsm") == 1
    assert attacks[-1] == "fgsm"


def test_opponents_that_are_not_there_are_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidConfig, match='no defense "fgsm"; there are adversarially_trained'):
        names(prepared("mine", "fgsm"), ATTACK)
    with pytest.raises(InvalidConfig, match=r'"jpeg" is the name of a defense there; .* --name'):
        names(prepared("jpeg"), ATTACK)
    alone = replace(prepared(), listed=())
    with pytest.raises(InvalidConfig, match="expected at least one attack to play against"):
        names(alone, DEFENSE)


def test_an_entry_may_use_its_own_image_besides_those_of_the_file() -> None:
    practice = prepared()
    listed = practice.target.tournament.sandbox.images
    assert practice.settings(entry(ATTACK)).sandbox.images == listed
    assert practice.settings(entry(ATTACK, container="image.tar")).sandbox.images == listed
    own = practice.settings(entry(ATTACK, container="my/image:1"))
    assert own.sandbox.images == (*listed, "my/image:1")


def test_what_is_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    like = load_tournament(ROOT / SAMPLES)
    awkward = tmp_path / 'a "b" \\ ü'
    awkward.mkdir()
    (awkward / "weights").touch()
    sources = {
        Role.ATTACK: [
            EntrySource(
                path=awkward,
                name="mine",
                role=Role.ATTACK,
                team="red = 1",
                display="# [x]",
                url="https://example.org",
                baseline=True,
                randomised=True,
                files={"a b/w.bin": awkward / "weights"},
            )
        ],
        Role.DEFENSE: [s for s in listed_entries(like).sources if s.role is Role.DEFENSE],
    }
    file = tmp_path / "practice.toml"
    write_tournament(file, "practice-mine", like, sources)
    written = load_tournament(file)
    assert listed_entries(written).sources == (*sources[Role.ATTACK], *sources[Role.DEFENSE])
    own = {"name", "entries"}
    assert written.model_dump(exclude=own) == like.model_dump(exclude=own)


def test_without_the_samples_the_way_to_others_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("advcomp.__file__", str(tmp_path / "lib/advcomp/__init__.py"))
    monkeypatch.chdir(tmp_path)
    result = advcomp("practice", tmp_path)
    assert result.exit_code == 1
    assert "--against FILE" in result.stderr


def practise(contest: Contest, entry: Path, *options: str) -> Result:
    """Practise with a noop against a defense that always says 3, which is right on one image."""
    others = contest.folder / "others"
    if not others.exists():
        shutil.move(contest.entry("noop", COPY), others / "noop")
        shutil.move(contest.entry("constant", CONSTANT, "defense"), others / "constant")
    file = contest.file([others / "noop"], [others / "constant"], more=SMALL, view="pooled")
    run = contest.folder / "runs"
    more = ("--max-epsilon", "32", "--out", str(run), "--jobs", "2", *options)
    return advcomp("practice", entry, "--against", file, *more)


def test_an_entry_is_scored_and_once_more_runs_nothing(contest: Contest) -> None:
    mine = contest.entry("mine", COPY)
    result = practise(contest, mine)
    assert result.exit_code == 0, result.output
    assert "mine: score 0.833, rank 1 of 2 in this table\n" in result.stdout
    (row,) = (line for line in result.stdout.splitlines() if "<- yours" in line)
    assert "6 of 6" in row
    assert row.split()[-1] == "OK"
    assert "problems: none\n" in result.stdout
    report = (contest.folder / "runs/results/report.html").resolve()
    assert result.stdout.endswith(f"report: {report.as_uri()}\n")
    mine.rename(mine.with_name("renamed"))
    again = practise(contest, mine.with_name("renamed"))
    assert "attacks: 0 jobs to run, 2 stored" in again.stderr
    assert "defenses: 0 jobs to run, 1 stored" in again.stderr
    assert "renamed: score 0.833, rank 1 of 2" in again.stdout
    for table in (contest.folder / "runs/results").rglob("*.*"):
        assert not re.search(r"\bmine\b", table.read_text()), table


def test_an_entry_that_is_invalid_is_told_in_validates_words(contest: Contest) -> None:
    broken = contest.entry("broken", COPY, kind="atack")
    result = practise(contest, broken)
    assert result.exit_code == 1
    named, problem, verdict = result.stdout.splitlines()
    assert named == f"broken: {broken}"
    assert problem.startswith('  problem: broken/metadata.json: "type" must be one of attack')
    assert verdict == "broken: INVALID: 1 problem"


@pytest.mark.long
def test_runs_that_fail_are_told_in_validates_words(contest: Contest) -> None:
    """Half of the images are written, then the program dies; at both budgets."""
    half = 'for f in $(ls "$1" | head -n 3); do cp "$1/$f" "$2"; done; python3 -c "import nosuch"'
    result = practise(contest, contest.entry("half", half), "--max-epsilon", "8")
    assert result.exit_code == 1
    told = "problems: 2 runs of 2 not OK\n  half-eps32-0: CRASHED\n    exit code 1\n"
    ending = f"to see the others: advcomp logs {contest.folder}/runs half\n"
    for words in ("6 of 12", "score 0.417, rank 2 of 2 in", told, "end of its log:", ending):
        assert words in result.stdout
    assert 'hint: the box has no Python module "nosuch"' in result.stdout


def test_what_cannot_be_practised_is_refused_before_anything_runs(contest: Contest) -> None:
    assert "there is nothing" in practise(contest, contest.folder / "gone").stderr
    mine = contest.entry("mine", COPY)
    assert "--name" in practise(contest, mine, "--name", "no name").stderr
    assert "must be 1 to 6" in practise(contest, mine, "--images", "7").stderr
    assert not (contest.folder / "runs").exists()


@pytest.mark.long
def test_a_starter_plays_with_the_samples(tmp_path: Path) -> None:
    """The default: sample entries on digits, for which boxes need PyTorch."""
    for kind in ("attack", "defense"):
        advcomp("init", kind, tmp_path / kind)
        result = advcomp(
            "practice", tmp_path / kind, "--images", "20", "--out", tmp_path / f"{kind}-run"
        )
        assert result.exit_code == 0, result.output
        assert f"{kind}: score" in result.stdout
        assert "problems: none" in result.stdout
