"""Entries are recognised by what they are, not by what they are called."""

import csv
import json
import re
from pathlib import Path

import pytest
from support.contest import CONSTANT, COPY, Contest

from advcomp.errors import InvalidConfig
from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.entry.renamed import recognised
from advcomp.tournament.outcome.forecast import forecast
from advcomp.tournament.outcome.status import logs_of
from advcomp.tournament.runner import rescore, take_out
from advcomp.tournament.store.sealed import seal, unseal
from advcomp.tournament.store.state import FILE_NAME, EntryState, RunState

HALF = 'for f in $(ls "$1" | head -n 3); do cp "$1/$f" "$2"; done'


def entry(name: str, digest: str = "", played_as: str | None = None) -> EntryState:
    return EntryState(
        name=name,
        type=SubmissionType.ATTACK,
        source="/somewhere",
        digest=digest,
        played_as=played_as,
        rejected=not digest,
    )


def season(*rounds: dict[str, str]) -> dict[str, str]:
    """Name -> digest in each round of a run; name -> what results are kept under, in the last."""
    before: RunState | None = None
    now: tuple[EntryState, ...] = ()
    for names in rounds:
        now, known = recognised([entry(name, digest) for name, digest in names.items()], before)
        before = RunState.model_construct(entries=now, first_names=known)
    return {each.name: each.first_name for each in now}


@pytest.mark.parametrize(
    ("rounds", "kept"),
    [
        ([{"a": "1", "b": "2"}], {"a": "a", "b": "b"}),
        ([{"a": "1"}, {"b": "1"}], {"b": "a"}),
        ([{"a": "1"}, {"b": "1"}, {"c": "1"}, {"c": "1"}], {"c": "a"}),
        ([{"a": "1"}, {}, {"b": "1"}], {"b": "a"}),
        ([{"a": "1"}, {"b": "1"}, {"a": "1"}], {"a": "a"}),
        ([{"a": "1"}, {"a": "2"}], {"a": "a"}),
        ([{"a": "1", "b": "2"}, {"a": "2", "b": "1"}], {"a": "b", "b": "a"}),
        ([{"a": "1", "b": "1"}, {"b": "1", "a": "1"}], {"a": "a", "b": "b"}),
        ([{"a": "1", "b": "1"}, {"b": "1", "c": "1"}], {"b": "b", "c": "a"}),
        ([{"a": "1", "b": "1"}, {"d": "1", "c": "1"}], {"d": "a", "c": "b"}),
        ([{"a": "1"}, {"b": "1", "a": "1"}], {"a": "a", "b": "b"}),
        ([{"a": "1"}, {"b": "1"}, {"b": "1", "a": "1"}], {"b": "a", "a": "a~2"}),
        ([{"a": "1"}, {"b": "1"}, {"b": "1", "a": "1"}, {"a": "1"}], {"a": "a~2"}),
        ([{"a": "1"}, {"a": ""}, {"b": "1"}], {"b": "a"}),
        ([{"a": ""}, {"b": ""}], {"b": "b"}),
    ],
)
def test_each_entry_keeps_the_results_of_what_it_is(
    rounds: list[dict[str, str]], kept: dict[str, str]
) -> None:
    assert season(*rounds) == kept


def test_a_run_that_was_made_before_digests_were_remembered_is_recognised() -> None:
    before = RunState.model_construct(entries=(entry("a", "1"),), first_names={})
    (found,), _ = recognised([entry("b", "1")], before)
    assert (found.name, found.played_as) == ("b", "a")


def as_before(run: Path) -> None:
    """Let a run be as it was made before it remembered digests and first names."""
    content = unseal((run / FILE_NAME).read_bytes())
    del content["first_names"]
    for each in content["entries"]:
        del each["played_as"]
    (run / FILE_NAME).write_bytes(seal(content))


@pytest.mark.long
def test_renaming_runs_nothing_and_every_table_has_the_new_names(contest: Contest) -> None:
    """The attacks swap names, a copy of one and the defense get new ones; `half` writes half."""
    whole, half = contest.entry("whole", COPY), contest.entry("half", HALF)
    defense = contest.entry("defense", CONSTANT, "defense")

    def file(names: dict[str, Path], defense_name: str) -> Path:
        attacks = [{"path": str(path), "name": name} for name, path in names.items()]
        defenses = [{"path": str(defense), "name": defense_name}]
        return contest.file(attacks, defenses, max_epsilons=[32], view="pooled")

    run = contest.run(file({"alpha": whole, "beta": half, "twin": whole}, "gamma")).run
    as_before(run)
    renamed = file({"alpha": half, "beta": whole, "sister": whole}, "delta")
    assert [row.stored - row.jobs for row in forecast(renamed, run, 2).rows] == [0, 0, 0, 0]
    done = contest.run(renamed)
    assert contest.watcher.stages == [("attacks", 0, 3), ("defenses", 0, 1)]
    assert done.results is not None
    with (done.results / "verdicts.csv").open() as file_:
        valid = {row["job"]: int(row["valid"]) for row in csv.DictReader(file_)}
    assert valid == {
        "alpha-eps32-0": 3,
        "beta-eps32-0": 6,
        "sister-eps32-0": 6,
        "delta-wave1-0": 21,
    }
    told = "".join(path.read_text() for path in done.results.rglob("*.*"))
    assert not re.search("gamma|twin", told)
    waves = json.loads((done.results / "results.json").read_text())["manifest"]["waves"]
    assert [column["attack"] for column in waves[0]] == ["beta", "alpha", "sister"]
    assert {job.result.job for job in logs_of(run, "beta")} == {"beta-eps32-0"}
    with pytest.raises(InvalidConfig, match="gamma"):
        logs_of(run, "gamma")
    assert rescore(run).results == done.results
    assert take_out(run, "beta") == 1
