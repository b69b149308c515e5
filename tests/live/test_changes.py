"""What the page is told after the first time gives the state that the run is in, and is short."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.run_folder import RunFolder

from advcomp.live.changes import changes
from advcomp.live.following import RunWatch
from advcomp.live.snapshot import Json

LISTS = ("leaderboard", "waiting", "running", "failures")
NAMES = st.sampled_from("abcde")
STANDINGS = st.lists(
    st.fixed_dictionaries(
        {
            "track": st.just("attack"),
            "submission": NAMES,
            "rank": st.integers(1, 3),
            "score": st.floats(0, 1),
        }
    ),
    unique_by=lambda row: row["submission"],
)


def merged(state: Json, told: Json) -> Json:
    """What the page's script makes of it."""
    found = {**state, **told, "event": "state"}
    for name in LISTS:
        was = state[name]
        assert isinstance(was, list)
        if name in told:
            found[name] = [
                was[item]
                if isinstance(item, int)
                else {**was[item[0]], **item[1]}
                if isinstance(item, list)
                else item
                for item in told[name]  # type: ignore[attr-defined]
            ]
    return found


def as_told(state: Json) -> Json:
    """As it comes over the line."""
    found: Json = json.loads(json.dumps(state))
    return found


@given(STANDINGS, STANDINGS)
def test_rows_that_come_go_move_and_change_are_told(before: list[Json], after: list[Json]) -> None:
    empty: Json = {name: [] for name in LISTS}
    was: Json = {"version": 1, "event": "state", "at": 1.0, **empty, "leaderboard": before}
    now: Json = {**was, "at": 2.0, "leaderboard": after}
    told = as_told(changes(was, now))
    assert merged(was, told) == now
    assert ("leaderboard" in told) == (before != after)


def test_a_row_that_stays_is_a_number_and_of_another_only_the_news_is_told() -> None:
    rows = [{"track": "attack", "submission": name, "score": 0.5, "team": "x"} for name in "ab"]
    was: Json = {"at": 0, "leaderboard": rows, "waiting": [], "phase": "attacks"}
    now: Json = {**was, "at": 1, "leaderboard": [{**rows[1], "score": 0.75}, rows[0]]}
    told = changes(was, now)
    assert told["leaderboard"] == [[1, {"score": 0.75}], 0]
    assert told.keys() == {"version", "event", "at", "leaderboard"}


def test_a_runs_own_states_are_told_by_their_changes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    watch = RunWatch(folder.run)
    state = as_told(watch.look().as_json())
    for attack, max_epsilon in (("noop", 8), ("fgsm", 8), ("noop", 32), ("fgsm", 32)):
        folder.attack(attack, max_epsilon)
        now = as_told(watch.look().as_json())
        state = merged(state, as_told(changes(state, now)))
        assert state == now
    folder.plan()
    folder.play()
    now = as_told(watch.look().as_json())
    assert merged(state, as_told(changes(state, now))) == now
