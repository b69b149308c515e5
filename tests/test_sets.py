"""Every test is of exactly one set: `make test` runs it, or `make test-all` does besides."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.parts import COLLECTED, Sets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PYTEST = ".venv/bin/pytest"


def options(target: str) -> list[str]:
    """What a target of the Makefile tells pytest, which it calls once."""
    said = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # What it is called under comes first.
    (call,) = (line.split() for line in said.splitlines() if PYTEST in line.split())
    return call[call.index(PYTEST) + 1 :]


COLLECT = """
import sys, pytest
class Asked:
    def pytest_collection_finish(self, session):
        print("RUN", *(item.nodeid for item in session.items), sep="\\nTEST ")
    def pytest_deselected(self, items):
        print("LEFT OUT", *(item.nodeid for item in items), sep="\\nTEST ")
options = [*sys.argv[1:], "--collect-only", "-qq", "-p", "no:cacheprovider"]
assert pytest.main(options, plugins=[Asked()]) == 0
"""


def collected(*options: str) -> dict[str, list[str]]:
    """The tests that pytest, told this, runs, and those that it leaves out."""
    # As `make` would run it, whatever whoever runs this test has asked for besides.
    plain = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", COLLECT, *options],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    found: dict[str, list[str]] = {"RUN": [], "LEFT OUT": []}
    part = found["RUN"]
    for line in done.stdout.splitlines():
        part = found.get(line, part)
        if line.startswith("TEST "):
            part.append(line.removeprefix("TEST "))
    return found


def written(file: Path) -> list[str]:
    """The tests that stand in a file, as pytest would call them without parameters."""
    module = file.relative_to(ROOT).as_posix()
    defined = (n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef))
    return [
        f"{module}::{function.name}" for function in defined if function.name.startswith("test")
    ]


SURROUNDINGS = "tests/tournament/test_surroundings.py"
BREAKS = "tests/tournament/test_cluster_breaks.py"
KINDS = "tests/tournament/test_cluster_kinds.py"
AUDIT = "tests/hostile/test_audit.py"


@pytest.fixture(scope="module")
def sets(request: pytest.FixtureRequest) -> Sets:
    """What `make test` runs, which this session may be."""
    config, told = request.config, options("test")
    started = getattr(config, "workerinput", {}).get("mainargv", sys.argv)
    if started[1:] == told and "PYTEST_ADDOPTS" not in os.environ:
        return config.stash[COLLECTED]
    found = collected(*told)
    return Sets(short=found["RUN"], whole=found["RUN"] + found["LEFT OUT"])


def test_the_long_set_is_all_that_the_short_one_leaves_out(sets: Sets) -> None:
    assert options("test-all") == [*options("test"), "--long"]
    files = sorted({name.partition("::")[0] for name in sets.whole if name not in sets.short})
    lightest = min(files, key=lambda name: (ROOT / name).stat().st_size)
    found = collected(*options("test-all"), lightest)
    of_it = [name for name in sets.whole if name.startswith(f"{lightest}::")]
    assert not found["LEFT OUT"]
    assert sorted(found["RUN"]) == sorted(of_it)


def test_every_test_is_of_one_of_the_two_sets(sets: Sets) -> None:
    assert set(sets.short) < set(sets.whole)
    names = {name.partition("[")[0] for name in sets.whole}
    standing = [name for file in (ROOT / "tests").rglob("*.py") for name in written(file)]
    assert len(standing) == len(set(standing)), "a second test of a name replaces the first one"
    assert set(standing) == names


def test_each_promise_is_tried_in_the_short_set(sets: Sets) -> None:
    """With some parameters at least; but for what goes by a name of its own there."""
    short, whole = ({n.partition("[")[0] for n in names} for names in (sets.short, sets.whole))
    assert whole - short == {
        "tests/tournament/test_digits.py::test_the_official_view_gives_the_same_labels",
        # Its gradients are those of one process's test; ranks are tried with the other networks.
        "tests/attacknet/test_parallel.py::"
        "test_a_network_that_is_told_gradients_by_the_pixel_takes_the_same_steps",
        # A page of 16,692 cells is drawn in a browser; smaller ones are, in the short set.
        "tests/scoring/report/test_report_at_size.py::"
        "test_2017s_size_takes_two_megabytes_at_most_and_reads_everywhere",
        # One entry is renamed in the short set, as it practises; here three are, in an old run.
        "tests/tournament/test_renamed.py::"
        "test_renaming_runs_nothing_and_every_table_has_the_new_names",
        # What a failed run lacked is told by the code of `validate`; samples need PyTorch.
        "tests/tournament/test_practice.py::test_runs_that_fail_are_told_in_validates_words",
        "tests/tournament/test_practice.py::test_a_starter_plays_with_the_samples",
        # Real runs; one that a test writes, result by result, is followed in the short set.
        "tests/live/test_run_events.py::test_a_run_prints_its_events_and_at_last_its_state",
        "tests/live/test_page_in_a_browser.py::"
        "test_the_page_follows_a_real_run_that_is_killed_and_goes_on",
        # Their first run has failed beside other tests of one long session, never by itself.
        f"{SURROUNDINGS}::test_results_are_the_same",
        f"{SURROUNDINGS}::test_a_limit_that_is_too_low_is_named_before_anything_runs",
        f"{SURROUNDINGS}::test_more_boxes_need_more_files",
        f"{SURROUNDINGS}::test_a_folder_that_is_gone_is_named",
        # What stops a process alone is in the short set; here mpiexec starts two, and kills them.
        "tests/attacknet/test_train.py::test_ranks_that_mpiexec_stops_keep_their_steps",
        # A network of timm that is not compared; the short set says that all others are.
        "tests/players/test_published_feeds.py::"
        "test_what_is_too_large_to_compare_is_fed_as_its_library_feeds_it",
        # Twelve networks, which the short set reads about.
        "tests/players/test_train_command.py::"
        "test_every_classifier_for_attack_networks_can_be_trained",
        # Five networks of 224 pixels are made; recipes of small images take steps in the other.
        "tests/attacknet/test_committed_networks.py::test_the_recipe_for_large_images_takes_a_step",
        # Three programs at once for each file; what a rank does is tried in the short set.
        "tests/attacknet/test_parallel.py::test_what_is_wrong_with_a_file_is_told_by_one_rank",
        # Each starts a cluster of its own, and waits for what is dead to be noticed.
        f"{BREAKS}::test_the_scheduler_is_killed",
        f"{BREAKS}::test_the_referee_is_killed",
        f"{BREAKS}::test_a_node_that_never_answers_is_named",
        f"{BREAKS}::test_a_node_without_room_gets_no_more_jobs",
        f"{BREAKS}::test_a_store_without_room_stops_the_run",
        f"{BREAKS}::test_machines_over_tls_one_of_which_is_cut_off",
        f"{BREAKS}::test_plain_tcp_to_another_machine_is_refused",
        # A compiler makes a C library first; what belongs together is in the short set.
        "tests/sandbox/test_first.py::test_the_binary_is_what_its_source_makes",
        # Two processes share a study, and one is stopped; one after the other is in the short set.
        "tests/tuning/test_tune.py::"
        "test_processes_share_a_study_and_one_that_is_stopped_loses_nothing",
        "tests/tuning/test_tune.py::test_a_training_is_tuned_on_its_validation_classifiers",
        # What a training is worth, and what is of it, are in the short set.
        "tests/tuning/test_trainings.py::test_classifiers_and_denoisers_are_tuned_and_pruned",
        # SQLAlchemy loads for a second; the journal is in the short set.
        "tests/tuning/test_search.py::test_a_database_holds_a_study_too",
        f"{KINDS}::test_processes_of_this_machine",
        f"{KINDS}::test_ranks_of_mpi",
        f"{KINDS}::test_machines_that_are_reached_by_ssh",
        f"{KINDS}::test_a_machine_without_python_is_told_in_its_own_words",
        f"{KINDS}::test_a_machine_that_refuses_the_key_is_told",
        # Hundreds of boxes; one cheat and one honest entry are audited for real in the short set.
        f"{AUDIT}::test_every_cheat_is_flagged_for_what_it_does",
        f"{AUDIT}::test_no_honest_entry_is_flagged",
        f"{AUDIT}::test_a_stolen_entry_is_found_with_the_one_it_is_of",
        f"{AUDIT}::test_a_copied_attack_is_found_though_none_of_its_images_is_the_same",
        f"{AUDIT}::test_an_attack_that_knows_images_is_found_where_their_pixels_move",
        f"{AUDIT}::test_an_agreed_mark_is_found_in_the_rates_of_the_pair",
        f"{AUDIT}::test_an_attack_that_is_seeded_once_a_run_is_told_and_not_flagged",
        f"{AUDIT}::test_a_message_in_the_page_cache_is_caught_where_the_wall_fails",
    }
