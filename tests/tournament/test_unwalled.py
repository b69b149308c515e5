"""A tournament without a sandbox: its results are marked, and never mixed with others."""

import json
import subprocess
import sys

import pytest
from support.contest import BRIGHTNESS, DARKER, Contest

from advcomp.errors import InvalidConfig, RunConflict
from advcomp.terminal.console_tables import print_leaderboard
from advcomp.terminal.run_command import options_of, rerun_in_terminal, resume_line
from advcomp.tournament.outcome.status import remarks
from advcomp.tournament.runner import take_out


def test_results_without_walls_are_marked_and_kept_apart(
    contest: Contest, capsys: pytest.CaptureFixture[str]
) -> None:
    file = contest.file(
        [contest.entry("darker", DARKER)],
        [contest.entry("brightness", BRIGHTNESS, "defense")],
        max_epsilons=[8],
    )
    finished = contest.run(file, backend="none", trusting=True)
    assert finished.results is not None
    manifest = json.loads((finished.results / "results.json").read_text())["manifest"]
    assert manifest["sandbox"]["name"] == "none"
    assert manifest["defense"]["official"] is False
    assert remarks(finished.run)[0].startswith("sandbox: none (unofficial")
    report = (finished.results / "report.html").read_text()
    assert "<strong>sandbox: none</strong>" in report
    assert "<strong>unofficial</strong>" in report
    verdicts = (finished.results / "verdicts.csv").read_text().splitlines()[1:]
    assert verdicts
    assert all("ran without a sandbox" in line for line in verdicts)
    assert "--sandbox none --i-trust-these-submissions" in resume_line(options_of(finished.run))
    print_leaderboard(finished.run, "md")
    assert "\nsandbox: none (unofficial" in capsys.readouterr().out
    with pytest.raises(InvalidConfig, match="expected --i-trust-these-submissions"):
        rerun_in_terminal(finished.run, ["darker"], None)
    assert take_out(finished.run, "darker") == 1, "a refused rerun takes nothing out"
    with pytest.raises(RunConflict, match=r'\[sandbox\] backend: was "none", is now "bubblewrap"'):
        contest.run(file)


@pytest.mark.slow
def test_labels_are_those_of_the_sandbox(contest: Contest) -> None:
    file = contest.file(
        [contest.entry("darker", DARKER)],
        [contest.entry("brightness", BRIGHTNESS, "defense")],
        max_epsilons=[8],
    )
    folder = contest.folder / "runs"
    plain = contest.run(file, backend="none", trusting=True, out=folder / "plain")
    boxed = contest.run(file, out=folder / "boxed")
    for name in ("accuracy_matrix.csv", "error_matrix.csv"):
        assert plain.results is not None
        assert boxed.results is not None
        assert (plain.results / name).read_bytes() == (boxed.results / name).read_bytes()


def test_without_the_promise_nothing_is_run(contest: Contest) -> None:
    file = contest.file([contest.entry("darker", DARKER)], [])
    with pytest.raises(InvalidConfig, match="expected --i-trust-these-submissions"):
        contest.run(file, backend="none")
    assert not (contest.folder / "runs").exists()


@pytest.mark.parametrize("command", ["run", "validate"])
def test_the_command_line_asks_for_the_promise(contest: Contest, command: str) -> None:
    file = contest.file([contest.entry("darker", DARKER)], [])
    done = subprocess.run(
        [sys.executable, "-m", "advcomp.cli", command, str(file), "--sandbox", "none"],
        cwd=contest.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "--i-trust-these-submissions" in done.stderr
    assert "Traceback" not in done.stderr
