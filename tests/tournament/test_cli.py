"""The command line: what it prints, where, and with which exit code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import advcomp
from support.contest import COPY, Contest, write_greys

from advcomp.cli import BACKENDS, main
from advcomp.rules.dataset import load_dataset
from advcomp.sandbox.base import UNWALLED
from advcomp.tournament.config import Backend, LogPolicy, LogsTable
from advcomp.tournament.store.state import load_state, save_state

HEAVY = "rich pydantic numpy pandas jinja2 PIL torch sklearn advcomp.tournament advcomp.sandbox"
COMMANDS = "dataset validate run plan status logs rerun score leaderboard doctor gc"

CONSTANT = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'
HOSTILE_LOG = "printf 'a\\033[31mred\\007 \\377\\n'; exit 3"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    """A finished run of a copying and a crashing attack, to be looked at only."""
    folder = tmp_path_factory.mktemp("finished")
    write_greys(folder / "data", 6)
    contest = Contest(folder)
    attacks = [contest.entry("copy", COPY), contest.entry("crash", HOSTILE_LOG)]
    contest.run(contest.file(attacks, [contest.entry("three", CONSTANT, "defense")]))
    return contest


@pytest.fixture(scope="module")
def run(finished: Contest) -> Path:
    return finished.folder / "runs" / "contest"


def test_help_imports_nothing_heavy() -> None:
    program = "\n".join(
        (
            "import sys",
            "from advcomp.cli import main",
            "main(['--help'], standalone_mode=False)",
            f"print('loaded:', *(set({HEAVY.split()}) & set(sys.modules)))",
        )
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded:", done.stderr


@pytest.mark.slow
def test_help_starts_at_most_12_times_slower_than_a_bare_interpreter() -> None:
    program = Path(__file__).parents[2] / "benchmarks" / "startup.py"
    command = [sys.executable, str(program), "--rounds", "5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_has_help_of_its_own() -> None:
    assert set(COMMANDS.split()) <= set(main.commands)
    for name in main.commands:
        result = advcomp(name, "--help")
        assert result.exit_code == 0
        assert main.commands[name].get_short_help_str().rstrip(".") in " ".join(
            result.stdout.split()
        )


def test_the_choices_of_sandbox_are_those_of_the_file_and_none() -> None:
    assert set(BACKENDS) - {UNWALLED} == set(Backend)


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run"],
        ["run", "a.toml", "--frobnicate"],
        ["run", "a.toml", "--jobs", "0"],
        ["run", "a.toml", "--sandbox", "chroot"],
        ["leaderboard", "runs/a", "--format", "pdf"],
        ["rerun", "runs/a"],
        ["dataset", "mnist", "folder"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    result = advcomp(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("command", ["run", "plan", "validate"])
def test_a_tournament_file_that_is_not_there_is_told_without_a_traceback(
    tmp_path: Path, command: str
) -> None:
    file = tmp_path / "absent.toml"
    result = advcomp(command, file)
    assert result.exit_code == 1
    assert result.stderr == f"advcomp: {file}: cannot be read: No such file or directory\n"


def test_all_problems_stand_on_lines_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('name = "x y"\n[dataset]\nsource = "digit"\nimages = 0\n')
    result = advcomp("run", file)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert [line.split(":")[:3] for line in lines] == [
        ["advcomp", f" {file}", number] for number in ("1", "3", "4")
    ]


@pytest.mark.parametrize("command", ["status", "logs", "score", "leaderboard"])
def test_a_folder_that_is_no_run_is_told(tmp_path: Path, command: str) -> None:
    result = advcomp(command, tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"advcomp: {tmp_path}: expected the folder of a run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_without_a_traceback(finished: Contest) -> None:
    file = finished.folder / "contest.toml"
    result = advcomp("run", file, "--out", file / "below a file")
    assert result.exit_code == 1
    # The file is where a folder must be made.
    told = f"advcomp: {file}: File exists; take away what is there, or name another place\n"
    assert result.stderr == told


def test_a_sandbox_that_is_not_there_exits_4_and_says_which_are(
    finished: Contest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap = shutil.which("bwrap")
    assert bwrap is not None
    (tmp_path / "bwrap").symlink_to(bwrap)
    monkeypatch.setenv("PATH", str(tmp_path))
    file = finished.folder / "contest.toml"
    result = advcomp("run", file, "--sandbox", "gvisor", "--out", finished.folder / "other")
    assert result.exit_code == 4
    assert "sandboxes that work here: bubblewrap" in result.stderr


@pytest.mark.slow
def test_doctor_exits_0_where_bubblewrap_works() -> None:
    result = advcomp("doctor")
    assert result.exit_code == 0
    assert "ok  bubblewrap: version" in result.stdout


def test_doctor_exits_4_with_the_remedy_where_bubblewrap_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = advcomp("doctor")
    assert result.exit_code == 4
    assert "NO  bubblewrap: not installed\n    remedy: `sudo apt-get" in result.stdout


def test_the_leaderboard_as_csv_is_the_results_file(run: Path) -> None:
    csv = (run / "results" / "leaderboard.csv").read_text()
    assert advcomp("leaderboard", run, "--format", "csv").stdout == csv


def test_the_leaderboard_as_json_markdown_and_table(run: Path) -> None:
    rows = json.loads(advcomp("leaderboard", run, "--format", "json").stdout)
    names = [row["submission"] for row in rows]
    assert sorted(names) == ["copy", "crash", "three"]
    for form in ("md", "table"):
        text = advcomp("leaderboard", run, "--format", form).stdout
        # Below stands who is left out as an opponent.
        board = text[: text.index("is incomplete")] if "is incomplete" in text else text
        assert [name for name in board.split() if name in names][: len(names)] == names
    assert advcomp("leaderboard", run).stdout == text


def test_score_writes_the_same_bytes_again(run: Path) -> None:
    results = run / "results"
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    shutil.rmtree(results)
    result = advcomp("score", run)
    assert result.exit_code == 0
    assert result.stdout == f"results: {results}\n"
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_logs_steer_no_terminal(run: Path) -> None:
    """Neither escape sequences nor bells nor bytes that are no text reach it."""
    result = advcomp("logs", run, "crash")
    assert result.exit_code == 0
    assert "exit code 3" in result.stdout
    assert result.stdout.count("a\\x1b[31mred\\x07 \\xff\n") == 2
    assert all(c.isprintable() or c == "\n" for c in result.stdout)


def test_a_single_job_can_be_named(run: Path) -> None:
    result = advcomp("logs", run, "crash-eps32-0")
    assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith("==")] == [
        "crash-eps32-0"
    ]
    listed = advcomp("logs", run).stdout
    assert {"crash-eps8-0", "crash-eps32-0", "three-wave1-0"} <= set(listed.split())


def test_a_name_that_is_not_there_is_told_with_those_that_are(run: Path) -> None:
    for arguments in (("logs", run, "nobody"), ("rerun", run, "--submission", "nobody")):
        result = advcomp(*arguments)
        assert result.exit_code == 1
        assert '"nobody"' in result.stderr
        assert "copy, crash, three" in result.stderr


@pytest.mark.parametrize(("show", "seen"), [("smoke", False), ("tail", True), ("full", True)])
def test_competitors_see_what_the_file_lets_them(run: Path, show: str, seen: bool) -> None:
    state = load_state(run)
    save_state(run, state.model_copy(update={"logs": LogsTable(show=LogPolicy(show))}))
    try:
        result = advcomp("logs", run, "crash", "--for-competitor")
    finally:
        save_state(run, state)
    assert ("red" in result.stdout) == seen
    assert "CRASHED" in result.stdout
    assert "img-" not in result.stdout


def test_status_says_how_far_a_run_is(run: Path) -> None:
    result = advcomp("status", run)
    assert result.exit_code == 0
    assert result.stdout.startswith("contest: finished; 7 jobs done; results: ")
    assert "CRASHED" in result.stdout


def test_plan_prints_every_entry_and_runs_nothing(finished: Contest) -> None:
    out = finished.folder / "planned"
    result = advcomp("plan", finished.folder / "contest.toml", "--out", out)
    assert result.exit_code == 0
    assert not out.exists()
    for expected in ("copy", "crash", "three", "unknown until every entry", "are free"):
        assert expected in result.stdout


@pytest.mark.slow
def test_digits_are_written_as_a_dataset(tmp_path: Path) -> None:
    result = advcomp("dataset", "digits", tmp_path / "digits")
    assert result.exit_code == 0, result.stderr
    images = tmp_path / "digits" / "images"
    dataset = load_dataset(images, tmp_path / "digits" / "images.csv")
    assert len(dataset) == 600
    again = advcomp("dataset", "digits", tmp_path / "digits")
    assert again.exit_code == 1
    assert again.stderr.startswith(f"advcomp: {tmp_path / 'digits'}: must not exist")


def test_a_source_of_cifar10_that_is_not_there_is_told(tmp_path: Path) -> None:
    source = tmp_path / "absent.npz"
    result = advcomp("dataset", "cifar10", tmp_path / "cifar10", "--source", source)
    assert result.exit_code == 1
    assert str(source) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_cifar10_without_a_source_is_looked_for_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = advcomp("dataset", "cifar10", tmp_path / "cifar10")
    assert result.exit_code == 1
    assert str(tmp_path / "cache/advcomp") in result.stderr
    assert "--download" in result.stderr
