"""A study: as many trials as asked for, whoever works on it and however often it is cut off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from advcomp.errors import AdvcompError, InvalidConfig, RunConflict
from advcomp.rules.toml_parameters import Value
from advcomp.tournament.job.executors import Stop
from advcomp.tuning.entry_settings import Settings
from advcomp.tuning.final import FINAL
from advcomp.tuning.match import parts_of
from advcomp.tuning.outcome import write_best, write_outcome
from advcomp.tuning.search import Search
from advcomp.tuning.seats import seated, take_up_lost
from advcomp.tuning.studies import OVER, best_of, is_done, open_study
from advcomp.tuning.subject import TuneObserver, Wrong, settings_text
from advcomp.tuning.tune_file import TuneFile, load_tune_file

FILE = """
name = "parabola"
tournament = "t.toml"
entry = "e"
settings = "s.toml"
[opponents]
validation = ["a"]
[space]
x = { low = -1.0, high = 1.0 }
y = { low = 0, high = 3 }
[trials]
count = 12
first_images = 1
"""


@dataclass
class Parabola:
    """Worth 1 - x^2 - y; steps 1 and 3 are told before."""

    tune: TuneFile
    cut_off_at: int | None = None
    tried: list[dict[str, object]] = field(default_factory=list)
    error: type[Exception] | None = None
    settings = Settings(path=Path("s.toml"), text="# The best.\nx = 0.5\ny = 2\n")
    identity: Mapping[str, object] = field(default_factory=lambda: {"of": "parabola"})
    first_step = 1

    def run(
        self, trial: optuna.Trial, seat: Path, observer: TuneObserver, stop: Stop
    ) -> list[float] | None:
        self.tried.append(trial.params)
        if len(self.tried) == self.cut_off_at:
            if self.error is not None:
                raise self.error("as told")
            stop.set()
            return None
        x, y = trial.params["x"], trial.params["y"]
        worth = 1 - x * x - y
        for step in (1, 3):
            trial.report(worth, step=step)
            if trial.should_prune():
                raise optuna.TrialPruned
        if self.tune.objective.seconds_per_100_images is not None:
            trial.set_constraint(OVER, x)
        return [worth] if len(self.tune.objective.of) == 1 else [worth, y]

    def forget(self, trial: optuna.Trial, seat: Path) -> None:
        """Nothing is kept."""

    def text_of(self, values: Mapping[str, Value], folder: Path) -> str:
        return settings_text(self.tune, self.settings, values)


class Heard:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ends: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def began(self, number: int, values: Mapping[str, object]) -> None:
        """Nothing."""

    def reached(self, number: int, so_far: str, of: Sequence[str], worth: Sequence[float]) -> None:
        """Nothing."""

    def ended(self, number: int, how: str) -> None:
        self.ends.append(how)


def tuning(folder: Path, more: str = "", **changes: str) -> TuneFile:
    text = FILE + more
    for old, new in changes.items():
        text = text.replace(f"{old} = {12 if old == 'count' else 1}", f"{old} = {new}")
    (folder / "tune.toml").write_text(text)
    return load_tune_file(folder / "tune.toml")


def searching(subject: Parabola, folder: Path, heard: Heard | None = None) -> Search:
    study = open_study(subject.tune, folder / "study", subject.identity, 1)
    keep = partial(write_outcome, subject.tune, subject, study, folder / "study")
    return Search(
        tune=subject.tune,
        subject=subject,
        study=study,
        folder=folder / "study",
        observer=heard or Heard(),
        keep=keep,
    )


def test_a_study_begins_with_what_is_and_finds_what_is_better(tmp_path: Path) -> None:
    subject = Parabola(tuning(tmp_path))
    search = searching(subject, tmp_path)
    search.go_on(Stop())
    trials = search.study.trials
    assert subject.tried[0] == {"x": 0.5, "y": 2}
    assert len(trials) == 12
    assert all(map(is_done, trials))
    assert {TrialState.PRUNED, TrialState.COMPLETE} == {trial.state for trial in trials}
    (best,) = best_of(search.study)
    assert best.value == max(trial.value or -9 for trial in trials if trial.value is not None)
    ((_, file),) = write_best(subject.tune, subject, search.study, tmp_path / "study")
    text = file.read_text()
    assert text.startswith(f"# Trial {best.number} of the study parabola: score {best.value:.6g}")
    assert f"# The best.\nx = {best.params['x']}\ny = {best.params['y']}\n" in text
    search.go_on(Stop())
    assert len(search.study.trials) == 12, "there were enough"


def test_a_study_that_is_stopped_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = Parabola(tuning(tmp_path))
    searching(whole, tmp_path / "whole").go_on(Stop())
    first = Parabola(whole.tune, cut_off_at=5)
    search = searching(first, tmp_path)
    search.go_on(Stop())
    assert [trial.state for trial in search.study.trials[-2:]] == [
        TrialState.FAIL,
        TrialState.WAITING,
    ]
    second = Parabola(whole.tune)
    again = searching(second, tmp_path)
    again.go_on(Stop())
    assert first.tried[:5] == whole.tried[:5]
    assert second.tried[0] == first.tried[4], "what was cut off is tried first"
    assert sum(map(is_done, again.study.trials)) == 12
    assert not any(trial.state is TrialState.WAITING for trial in again.study.trials)


def test_trials_meet_more_and_more_until_they_have_met_all() -> None:
    assert parts_of(100, 20, 3) == (20, 60, 100)
    assert parts_of(60, 20, 3) == (20, 60)
    assert parts_of(5, 20, 3) == (5,)


def test_an_error_loses_no_trial(tmp_path: Path) -> None:
    subject = Parabola(tuning(tmp_path), cut_off_at=3, error=AdvcompError)
    search = searching(subject, tmp_path)
    with pytest.raises(AdvcompError, match="as told"):
        search.go_on(Stop())
    (waiting,) = (t for t in search.study.trials if t.state is TrialState.WAITING)
    assert waiting.system_attrs["fixed_params"] == subject.tried[2]


def test_values_that_do_not_work_are_not_tried_again(tmp_path: Path) -> None:
    heard = Heard()
    subject = Parabola(tuning(tmp_path), cut_off_at=2, error=Wrong)
    search = searching(subject, tmp_path, heard)
    search.go_on(Stop())
    assert heard.ends[1] == "failed: as told"
    assert len(search.study.trials) == 12
    assert search.study.trials[1].state is TrialState.FAIL


def test_a_trial_whose_process_died_is_taken_up_and_no_other(tmp_path: Path) -> None:
    subject = Parabola(tuning(tmp_path))
    search = searching(subject, tmp_path)
    with seated(search.folder) as dead:
        lost = search._ask(dead)
    with seated(search.folder) as own, seated(search.folder) as other:
        assert own == dead, "a free seat is taken again"
        alive = search._ask(other)
        assert lost is not None
        assert alive is not None
        assert take_up_lost(search.study, own, None) == [lost.number]
        far = search._ask(own)
        assert far is not None
        far.set_user_attr("host", "elsewhere")
        assert take_up_lost(search.study, own, None) == []
        assert take_up_lost(search.study, own, "elsewhere") == [far.number]
    states = [trial.state for trial in search.study.trials]
    assert states.count(TrialState.RUNNING) == 1


def test_two_that_work_together_try_different_values_and_no_more_than_asked(
    tmp_path: Path,
) -> None:
    tune = tuning(tmp_path, count="3")
    one, other = (searching(Parabola(tune), tmp_path) for _ in range(2))
    with seated(one.folder) as seat, seated(one.folder) as next_to_it:
        asked = [one._ask(seat), other._ask(next_to_it), one._ask(seat), other._ask(next_to_it)]
    found = [trial.params for trial in asked if trial is not None]
    assert len(found) == 3
    assert len({str(values) for values in found}) == 3
    assert asked[-1] is None


def test_another_space_is_another_study(tmp_path: Path) -> None:
    searching(Parabola(tuning(tmp_path)), tmp_path)
    changed = Parabola(tuning(tmp_path), identity={"of": "line"})
    with pytest.raises(RunConflict, match=r'of: was "parabola", is now "line"'):
        searching(changed, tmp_path)


def test_after_those_held_out_were_met_nothing_is_tuned(tmp_path: Path) -> None:
    search = searching(Parabola(tuning(tmp_path)), tmp_path)
    (search.folder / FINAL).write_text("{}")
    with pytest.raises(RunConflict, match="begin another study"):
        search.go_on(Stop())


def test_what_takes_too_long_is_never_best(tmp_path: Path) -> None:
    limit = "[objective]\nseconds_per_100_images = 5\n"
    search = searching(Parabola(tuning(tmp_path, 'pruner = "none"\n' + limit)), tmp_path)
    search.go_on(Stop())
    (best,) = best_of(search.study)
    assert best.params["x"] <= 0
    slow = [t for t in search.study.trials if t.params["x"] > 0]
    assert slow
    page = (search.folder / "report.html").read_text()
    assert page.count("<td>too slow</td>") == len(slow)


def test_two_objectives_leave_a_front_and_a_file_for_each(tmp_path: Path) -> None:
    two = '[objective]\nof = ["score", "seconds_per_100_images"]\n'
    tune = tuning(tmp_path, two)

    @dataclass
    class TradeOff(Parabola):
        def run(
            self, trial: optuna.Trial, seat: Path, observer: TuneObserver, stop: Stop
        ) -> list[float] | None:
            y = trial.params["y"]
            return [float(y), float(y) + abs(trial.params["x"])]

    subject = TradeOff(tune)
    search = searching(subject, tmp_path)
    search.go_on(Stop())
    front = best_of(search.study)
    assert len(front) == len({trial.params["y"] for trial in search.study.trials})
    for trial in front:
        rivals = [t for t in search.study.trials if t.params["y"] == trial.params["y"]]
        assert trial.values[1] == min(t.values[1] for t in rivals)
    files = sorted((search.folder / "best").rglob("s.toml"))
    assert {file.parent.name for file in files} == {f"trial-{t.number}" for t in front}


@pytest.mark.long
def test_a_database_holds_a_study_too(tmp_path: Path) -> None:
    path = tmp_path / "tune.toml"
    path.write_text(f'storage = "sqlite:///{tmp_path}/study.db"\n' + FILE)
    search = searching(Parabola(load_tune_file(path)), tmp_path)
    search.go_on(Stop())
    again = searching(Parabola(load_tune_file(path)), tmp_path)
    assert len(again.study.trials) == 12
    path.write_text('storage = "postgressql://nowhere"\n' + FILE)
    with pytest.raises(InvalidConfig, match='storage: expected "journal" or the URL'):
        searching(Parabola(load_tune_file(path)), tmp_path)
