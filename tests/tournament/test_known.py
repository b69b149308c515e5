"""A run that goes on reads only entries that have changed."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from advcomp.rules.folders import digest_folder
from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.entry import known
from advcomp.tournament.entry.entries import EntrySource, Role
from advcomp.tournament.entry.known import FILE_NAME, SETTLED_S, KnownEntries
from advcomp.tournament.store.state import EntryState


@pytest.fixture
def source(tmp_path: Path) -> EntrySource:
    """An entry with a file laid over it, and its copy in `run/entries`, both settled."""
    entry, weights = tmp_path / "entry", tmp_path / "weights"
    (entry / "model").mkdir(parents=True)
    (entry / "run.sh").write_text("one")
    weights.write_text("w")
    copy = tmp_path / "run/entries/copy"
    copy.mkdir(parents=True)
    (copy / "run.sh").write_text("one")
    copy.rename(copy.with_name(digest_folder(copy)))
    while time.time() - os.lstat(weights).st_ctime < 2 * SETTLED_S:  # files' clock is behind
        time.sleep(0.01)
    return EntrySource(
        path=entry, name="a", role=Role.ATTACK, team="red", files={"model/w": weights}
    )


def state_of(source: EntrySource, copies: Path) -> EntryState:
    (copy,) = copies.iterdir()
    return EntryState(
        name=source.name,
        type=SubmissionType.ATTACK,
        source=str(source.path),
        team=source.team,
        digest=copy.name,
        notes=("noted",),
    )


def memory(source: EntrySource, sandbox: str = "bubblewrap") -> KnownEntries:
    run = source.path.parent / "run"
    return KnownEntries(run / FILE_NAME, run / "entries", sandbox)


@pytest.fixture
def remembered(source: EntrySource) -> EntryState:
    first = memory(source)
    assert first.find(source) is None
    state = state_of(source, source.path.parent / "run/entries")
    first.remember(source, first.look(source), state)
    first.save()
    return state


def test_an_entry_that_has_not_changed_is_known(
    source: EntrySource, remembered: EntryState
) -> None:
    assert memory(source).find(source) == remembered
    other = replace(source, team="blue", url="https://example.org")
    found = memory(source).find(other)
    assert found is not None
    assert (found.team, found.url, found.notes) == ("blue", "https://example.org", ("noted",))
    assert memory(source).find(replace(source, name="b")) is None
    assert memory(source).find(replace(source, role=Role.DEFENSE)) is None
    assert memory(source, "gvisor").find(source) is None


def rewrite(file: Path) -> None:
    """Other content of the same size, with the times that were there."""
    before = file.stat()
    file.write_text("x" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: rewrite(entry / "run.sh"),
        lambda entry: (entry / "run.sh").chmod(0o755),
        lambda entry: (entry / "model" / "more").touch(),
        lambda entry: (entry / "run.sh").unlink(),
        lambda entry: rewrite(entry.parent / "weights"),
        lambda entry: rewrite(next((entry.parent / "run/entries").glob("*/run.sh"))),
        lambda entry: rewrite(entry.parent / "run" / FILE_NAME),
    ],
    ids=["content", "mode", "more", "less", "laid over", "copy", "memory"],
)
def test_whatever_changes_it_is_read_again(
    source: EntrySource, remembered: EntryState, change: Callable[[Path], None]
) -> None:
    change(source.path)
    assert memory(source).find(source) is None


def test_other_code_reads_again(
    source: EntrySource, remembered: EntryState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "package_digest", lambda: "another")
    assert memory(source).find(source) is None


def test_what_is_refused_has_an_image_or_just_changed_is_not_remembered(
    source: EntrySource,
) -> None:
    state = state_of(source, source.path.parent / "run/entries")
    for update in ({"rejected": True}, {"image": "sha256:1"}, {"digest": "gone"}):
        first = memory(source)
        first.remember(source, first.look(source), state.model_copy(update=update))
        first.save()
        assert memory(source).find(source) is None
    first = memory(source)
    seen = first.look(source)
    (source.path / "run.sh").write_text("two")
    first.remember(source, seen, state)
    first.save()
    assert memory(source).find(source) is None
