"""Reports of real runs."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.contest import BRIGHTNESS, COPY, IMAGES, Contest, write_greys

from advcomp.cli import main
from advcomp.errors import InvalidConfig, RunConflict
from advcomp.tournament.config import LogPolicy, LogsTable
from advcomp.tournament.outcome.reports import write_competitor_report, write_report
from advcomp.tournament.runner import rescore, take_out
from advcomp.tournament.store.state import load_state, save_state

CRASHING = f'{COPY}; rm "$2"/*.png; echo "read <b>$(ls $1 | wc -l)</b> images"; exit 3'


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    """A finished run of a fine attack, one that crashes, and a defense."""
    contest = Contest(tmp_path_factory.mktemp("once"))
    write_greys(contest.folder / "data", IMAGES)
    (contest.folder / "classes.csv").write_text("".join(f"{k},grey-{k}\n" for k in range(8)))
    noop = {"path": str(contest.entry("noop", COPY)), "display": "Nobody 1"}
    contest.run(
        contest.file(
            [noop, contest.entry("crashing", CRASHING)],
            [contest.entry("brightness", BRIGHTNESS, "defense")],
            more='[report]\nclass_names = "classes.csv"\n',
        )
    )
    return contest


@pytest.fixture
def run(once: Contest, tmp_path: Path) -> Path:
    """That run, moved with its images to a place of its own."""
    shutil.copytree(once.folder, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "runs" / "contest"
    state = load_state(run)
    dataset = state.dataset.model_copy(update={"images_dir": str(images_of(run))})
    save_state(run, state.model_copy(update={"dataset": dataset}))
    return run


def images_of(run: Path) -> Path:
    return run.parents[1] / "data" / "images"


def test_a_run_leaves_the_organisers_report(run: Path, once: Contest) -> None:
    page = (run / "results" / "report.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 3 * 4
    assert "CRASHED" in page
    assert "read &lt;b&gt;6&lt;/b&gt; images" in page
    assert str(once.folder) not in page


def test_rescoring_gives_the_same_report_byte_for_byte(run: Path) -> None:
    report = run / "results" / "report.html"
    before = report.read_bytes()
    report.unlink()
    rescore(run)
    assert report.read_bytes() == before
    assert write_report(run, run.parent / "x.html").read_bytes() == before


def test_without_the_clean_images_the_report_says_why_it_has_no_gallery(run: Path) -> None:
    for image in images_of(run).iterdir():
        image.unlink()
    page = write_report(run).read_text()
    assert "<img" not in page
    assert "The gallery needs the tournament&#39;s clean images" in page


def test_images_that_have_changed_since_are_not_shown(run: Path) -> None:
    images = sorted(images_of(run).iterdir())
    contents = [image.read_bytes() for image in images]
    for image, content in zip(images, contents[1:] + contents[:1], strict=True):
        image.write_bytes(content)
    page = write_report(run).read_text()
    assert "<img" not in page
    assert "has changed since the run" in page


@pytest.mark.parametrize(("policy", "shown"), [("smoke", False), ("tail", True), ("full", True)])
def test_a_competitor_sees_logs_as_the_tournament_allows(
    run: Path, once: Contest, policy: str, shown: bool
) -> None:
    state = load_state(run)
    logs = LogsTable(show=LogPolicy(policy))
    save_state(run, state.model_copy(update={"logs": logs}))
    page = write_competitor_report(run, "crashing").read_text()
    assert ("read &lt;b&gt;6&lt;/b&gt; images" in page) == shown
    assert "CRASHED" in page
    assert "exit code 3" in page
    assert "img-0" not in page
    assert str(once.folder) not in page


def test_the_command_writes_where_it_says(run: Path) -> None:
    organiser = CliRunner().invoke(main, ["report", str(run)])
    assert (organiser.exit_code, organiser.output) == (0, f"report: {run}/results/report.html\n")
    own = CliRunner().invoke(main, ["report", str(run), "--for", "noop"])
    assert (own.exit_code, own.output) == (0, f"report: {run}/reports/noop.html\n")
    assert "crashing" not in (run / "reports" / "noop.html").read_text()
    nobody = CliRunner().invoke(main, ["report", str(run), "--for", "nobody"])
    assert nobody.exit_code == 1
    assert 'got "nobody"; there are crashing, noop, brightness' in nobody.output


def test_the_page_has_its_day_and_names_of_classes(run: Path) -> None:
    page = (run / "results" / "report.html").read_text()
    assert f"begun on {load_state(run).began}." in page
    assert re.search(r"label (\d) grey-\1<", page)


def test_reports_for_all_and_for_the_public(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(run), "--for-all", str(tmp_path / "all")])
    assert (done.exit_code, done.output) == (0, f"3 reports: {tmp_path}/all\n")
    for name in ("noop", "crashing", "brightness"):
        own = write_competitor_report(run, name, tmp_path / "own.html")
        assert (tmp_path / "all" / f"{name}.html").read_bytes() == own.read_bytes()
    public = CliRunner().invoke(main, ["report", str(run), "--public"])
    assert public.output == f"report: {run}/results/public.html\n"
    page = (run / "results" / "public.html").read_text()
    assert "Nobody 1" in page
    assert "noop" not in page
    assert "<img" not in page
    both = CliRunner().invoke(main, ["report", str(run), "--public", "--for", "noop"])
    assert both.exit_code == 2
    assert "expected one of them at most" in both.stderr


def test_an_unfinished_run_has_no_report(run: Path) -> None:
    take_out(run, "noop")
    with pytest.raises(RunConflict, match="expected a finished run; 2 jobs have no result"):
        write_report(run)
    with pytest.raises(RunConflict, match="expected a finished run"):
        write_competitor_report(run, "noop")


def test_a_competitor_who_is_not_there_gets_no_file(run: Path) -> None:
    with pytest.raises(InvalidConfig):
        write_competitor_report(run, "../x")
    assert not (run / "reports").exists()
