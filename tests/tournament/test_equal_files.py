"""Files of equal content stand in a run folder once, and no box can write to them."""

import os
from contextlib import closing
from pathlib import Path

import pytest
from support.contest import CONSTANT, COPY, Contest

from advcomp.rules.folders import digest_folder
from advcomp.sandbox.doctor.garbage import folder_garbage
from advcomp.sandbox.probe import open_sandbox
from advcomp.tournament.entry.entries import EntrySource, Role
from advcomp.tournament.entry.equal_files import WORTH_BYTES, EqualFiles
from advcomp.tournament.entry.intake import take_entries
from advcomp.tournament.store.state import load_state

WEIGHTS = bytes(range(256)) * 400
WRITE = "echo mine > weights; rm -f more; ln weights more; cat weights > /dev/null; "


def weighty(contest: Contest, name: str, program: str, kind: str = "attack") -> Path:
    entry = contest.entry(name, program, kind)
    (entry / "weights").write_bytes(WEIGHTS)
    (entry / "more").write_bytes(name.encode() * WORTH_BYTES)
    return entry


def copies(run: Path) -> dict[str, Path]:
    return {entry.name: run / "entries" / entry.digest for entry in load_state(run).entries}


def test_weights_of_several_entries_are_stored_once_and_stay_theirs(contest: Contest) -> None:
    """One entry writes to its file; the others, which run after it and again, have the old one."""
    reads = '[ "$(head -c 3 weights | od -An -tx1)" = " 00 01 02" ] || exit 9; '
    attacks = [weighty(contest, "a_writes", WRITE + COPY), weighty(contest, "reads", reads + COPY)]
    defense = weighty(contest, "three", reads + CONSTANT, "defense")
    for _ in range(2):
        run = contest.run(contest.file(attacks, [defense])).run
        assert all(result.verdict == "OK" for result in contest.watcher.results)
        stored = copies(run)
        assert len({copy.stat().st_ino for copy in (c / "weights" for c in stored.values())}) == 1
        assert len({copy.stat().st_ino for copy in (c / "more" for c in stored.values())}) == 3
        assert all(digest_folder(copy) == copy.name for copy in stored.values())
        assert all((copy / "weights").read_bytes() == WEIGHTS for copy in stored.values())
    old = folder_garbage("old", stored["three"])
    assert old.size_bytes < len(WEIGHTS)


def test_of_equal_entries_that_are_read_at_once_the_first_copy_stays(contest: Contest) -> None:
    """Others read it meanwhile."""
    entry, copies = contest.entry("noop", COPY), contest.folder / "copies"
    sources = [EntrySource(path=entry, name=f"e{k}", role=Role.ATTACK) for k in range(4)]
    seen: list[dict[str, int]] = []
    with closing(open_sandbox("none", trusting=True)) as sandbox:
        states = take_entries(
            sources,
            sandbox,
            copies,
            None,
            known=contest.folder / "known",
            taken=lambda name: seen.append(
                {c.name: c.stat().st_ino for c in copies.glob("[!.]*")}
            ),
            boxes=2,
        )
    assert [state.name for state in states] == ["e0", "e1", "e2", "e3"]
    (digest,) = {state.digest for state in states}
    assert seen == [{digest: (copies / digest).stat().st_ino}] * 4


def test_a_file_of_another_mode_or_content_or_a_small_one_is_not_joined(tmp_path: Path) -> None:
    for name, content, mode in (
        ("a", WEIGHTS, 0o644),
        ("b", WEIGHTS, 0o755),
        ("c", WEIGHTS[:-1] + b"x", 0o644),
        ("d", WEIGHTS[:10], 0o644),
        ("e", WEIGHTS[:10], 0o644),
        ("f", WEIGHTS, 0o644),
    ):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    equal = EqualFiles(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        equal.join(path)
    links = {path.name: path.stat().st_nlink for path in tmp_path.iterdir()}
    assert links == {"a": 2, "b": 1, "c": 1, "d": 1, "e": 1, "f": 2}


def test_where_no_link_can_be_made_there_stays_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no hard links here")

    for name in "ab":
        (tmp_path / name).write_bytes(WEIGHTS)
    monkeypatch.setattr(os, "link", refuse)
    equal = EqualFiles(tmp_path)
    equal.join(tmp_path)
    assert {path.name: path.stat().st_nlink for path in tmp_path.iterdir()} == {"a": 1, "b": 1}
