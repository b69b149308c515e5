"""What `plan` says, against what a run then does."""

from pathlib import Path

import pytest
from support.contest import COPY, DARKER, SMALL, Contest, write_greys

from advcomp.errors import InvalidConfig, RunConflict
from advcomp.rules.verdict import Verdict
from advcomp.terminal.forecasting import print_forecast
from advcomp.tournament.outcome.forecast import Forecast, forecast
from advcomp.tournament.outcome.outlook import makespan, times_of
from advcomp.tournament.store.job_results import JobResult

CONSTANT = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'


@pytest.fixture
def entries(contest: Contest) -> tuple[list[Path], list[Path]]:
    attacks = [contest.entry("bare", COPY), contest.entry("copy", COPY)]
    defenses = [
        contest.entry("three", CONSTANT, "defense"),
        contest.entry("four", CONSTANT, "defense"),
    ]
    return attacks, defenses


def planned(contest: Contest, file: Path) -> Forecast:
    return forecast(file, contest.folder / "runs" / file.stem, None)


def jobs(outlook: Forecast, stage: str) -> tuple[int, int]:
    """Jobs to run and jobs stored."""
    rows = [row for row in outlook.rows if row.stage == stage]
    stored = sum(row.stored for row in rows)
    return sum(row.jobs for row in rows) - stored, stored


def told(contest: Contest) -> dict[str, tuple[int, int]]:
    """The same, as the run itself reported it."""
    return {
        title.removesuffix("s"): (run, stored) for title, run, stored in contest.watcher.stages
    }


@pytest.mark.parametrize(
    ("node", "jobs", "at_once"),
    [
        ('cpus = 4\nmemory = "64 GiB"', None, 12),
        ('cpus = 4\nmemory = "1100 MiB"', None, 6),
        ('cpus = 4\nmemory = "64 GiB"', 5, 5),
        ('cpus = 4\nmemory = "64 GiB"', 99, 12),
    ],
)
def test_a_cluster_takes_as_many_boxes_as_fit_on_its_nodes(
    contest: Contest, node: str, jobs: int | None, at_once: int
) -> None:
    """Nothing is submitted: one plans where there is no Slurm."""
    file = contest.file([contest.entry("copy", COPY)], [], more=SMALL)
    cluster = contest.folder / "cluster.toml"
    cluster.write_text(f'kind = "slurm"\n[node]\n{node}\n[nodes]\nmost = 3\n')
    outlook = forecast(file, contest.folder / "run", jobs, str(cluster))
    assert outlook.workers == at_once


def test_a_cluster_whose_nodes_are_too_small_is_refused(contest: Contest) -> None:
    file = contest.file([contest.entry("copy", COPY)], [], more=SMALL)
    cluster = contest.folder / "cluster.toml"
    cluster.write_text('kind = "slurm"\n[node]\ncpus = 4\nmemory = "100 MiB"\n')
    with pytest.raises(InvalidConfig, match="one takes cpus=1, memory=5"):
        forecast(file, contest.folder / "run", None, str(cluster))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "schedule"),
    [
        ("latin", "grid"),
        ("latin", "round-robin"),
        ("pooled", "grid"),
        ("per-attack", "round-robin"),
    ],
)
def test_a_run_does_the_jobs_that_were_planned(tmp_path: Path, view: str, schedule: str) -> None:
    """First one attack and one defense; then another of each, which is a wave more."""
    write_greys(tmp_path / "data", 150)
    contest = Contest(tmp_path)
    attacks = [contest.entry("one", COPY), contest.entry("two", DARKER)]
    defenses = [contest.entry(name, CONSTANT, "defense") for name in ("three", "four")]
    for number in (1, 2):
        file = contest.file(attacks[:number], defenses[:number], view=view, schedule=schedule)
        before = planned(contest, file)
        contest.run(file)
        assert {stage: jobs(before, stage) for stage in ("attack", "defense")} == told(contest)
    after = planned(contest, file)
    assert sum(row.starts + row.images + row.limit_s for row in after.rows) == 0
    assert after.at_most_s == after.expected_s == 0


def test_time_is_unknown_until_measured_then_from_earlier_runs(
    contest: Contest, entries: tuple[list[Path], list[Path]]
) -> None:
    attacks, defenses = entries
    one = contest.file(attacks[:1], defenses[:1])
    assert planned(contest, one).expected_s is None
    contest.run(one)
    two = contest.file(attacks, defenses[:1])
    foreseen = planned(contest, two)
    assert foreseen.around_s is not None
    assert foreseen.around_s > 0
    after = {row.entry: row for row in foreseen.rows}
    assert after["copy"].expected_s is None
    expected = after["three"].expected_s
    assert expected is not None
    assert 0 < expected < after["three"].limit_s


def test_the_time_limits_add_up(contest: Contest, entries: tuple[list[Path], list[Path]]) -> None:
    """6 images at 2 budgets: 2 jobs of 6 images; 3 shards of 6 images in the latin view."""
    attacks, defenses = entries
    limits = "[limits]\nstart_seconds = 10\nseconds_per_100_images = 100\n"
    file = contest.file(attacks[:1], defenses[:1], more=limits)
    outlook = forecast(file, contest.folder / "run", 2)
    assert [(row.entry, row.images, row.limit_s) for row in outlook.rows] == [
        ("bare", 12, 2 * 16),
        ("three", 18, 3 * 16),
    ]
    assert outlook.at_most_s == 16 + 2 * 16


def test_other_limits_make_every_job_run_again(
    contest: Contest, entries: tuple[list[Path], list[Path]]
) -> None:
    attacks, defenses = entries
    contest.run(contest.file(attacks, defenses))
    file = contest.file(attacks, defenses, more="[limits]\nstart_seconds = 61\n")
    assert jobs(planned(contest, file), "attack") == (4, 0)


def test_a_run_stays_below_the_disk_that_was_planned(
    contest: Contest, entries: tuple[list[Path], list[Path]]
) -> None:
    file = contest.file(*entries)
    disk = planned(contest, file).disk
    done = contest.run(file)
    used = sum(path.stat().st_blocks * 512 for path in (done.run / "jobs").rglob("*"))
    assert 0 < used <= disk.images + disk.logs
    copies = [path for path in (done.run / "entries").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in copies) <= disk.entries


def test_planning_changes_nothing_on_disk(
    contest: Contest, entries: tuple[list[Path], list[Path]]
) -> None:
    file = contest.file(*entries)
    before = sorted(contest.folder.rglob("*"))
    planned(contest, file)
    assert sorted(contest.folder.rglob("*")) == before


def test_a_folder_of_another_tournament_is_refused(
    contest: Contest, entries: tuple[list[Path], list[Path]]
) -> None:
    contest.run(contest.file(*entries))
    with pytest.raises(RunConflict, match="max_epsilons"):
        planned(contest, contest.file(*entries, max_epsilons=[8]))


@pytest.mark.parametrize(
    ("seconds", "workers", "end"),
    [([], 2, 0), ([5], 3, 5), ([3, 3, 2, 2, 2], 2, 7), ([1, 1, 1, 1], 4, 1), ([4, 1, 1], 1, 6)],
)
def test_the_longest_jobs_start_first(seconds: list[float], workers: int, end: float) -> None:
    assert makespan(seconds, workers) == end


@pytest.mark.parametrize(
    ("runs", "seconds_of_50"),
    [
        ([(10, 3.0), (100, 12.0)], 7.0),
        ([(10, 3.0), (10, 5.0), (100, 13.0)], 8.0),
        ([(10, 1.0), (11, 11.0), (12, 2.4)], 10.0),
    ],
    ids=["a start of 2 s", "the nearest line", "too much of one size: the median of an image"],
)
def test_a_start_is_told_apart_from_its_images_where_it_can_be(
    runs: list[tuple[int, float]], seconds_of_50: float
) -> None:
    ended = [
        JobResult(
            job="j",
            submission="copy",
            stage="attack",
            max_epsilon=8,
            shard=0,
            images=images,
            valid=images,
            verdict=Verdict.OK,
            wall_seconds=seconds,
        )
        for images, seconds in runs
    ]
    assert times_of(ended).of(50) == pytest.approx(seconds_of_50)


def test_a_finished_run_is_told_to_need_nothing(
    contest: Contest,
    entries: tuple[list[Path], list[Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The rejected entry is not planned as if it had never been looked at."""
    attacks, defenses = entries
    bad = contest.entry("bad", COPY, kind="atack")
    file = contest.file([*attacks, bad], defenses)
    out = contest.folder / "runs" / file.stem
    print_forecast(file, out, None)
    assert "nothing is left" not in capsys.readouterr().out
    contest.run(file)
    print_forecast(file, out, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "bad: was REJECTED when it was taken last; nothing is planned for it" in said
    assert "nothing is left to run: all 14 jobs are stored." in said
    assert planned(contest, file).rejected == ("bad",)
    other = contest.file([*attacks, bad, contest.entry("new", COPY)], defenses)
    print_forecast(other, out, None)
    assert "nothing is left" not in capsys.readouterr().out
