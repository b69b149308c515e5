from pathlib import Path

import pytest

from advcomp.errors import InvalidConfig
from advcomp.rules.threat import Schedule
from advcomp.sandbox.base import Limits
from advcomp.scoring.scores import Absence
from advcomp.tournament.config import (
    Backend,
    DatasetSource,
    LogPolicy,
    Tournament,
    check_machine,
    check_room,
    difference,
    load_tournament,
)
from advcomp.tournament.job.defense_views import DefenseView

SMALLEST = 'name = "t"\n[dataset]\nsource = "digits"\n'

EVERY_KEY = """
name = "final.round-2"

[dataset]
source = "folder"
images = 300
seed = 7
images_dir = "hidden/images"
csv = "../labels.csv"

[threat]
max_epsilons = [48, 0, 255]
schedule = "round-robin"

[entries]
attacks = ["a", { path = "b", name = "c", team = "Red team", files = { "w/x" = "y" } }]
defenses = [{ path = "d/*", baseline = true }]

[sandbox]
backend = "podman"
images = ["advcomp/runtime"]
image_map = { "iwiwi/nips17-adversarial" = "advcomp/runtime" }

[limits]
start_seconds = 1.5
seconds_per_100_images = 10
memory = "1.5 GiB"
cpus = 0.5
gpus = 1
pids = 64
output = "500 MB"
log = 4096

[defense]
view = "per-attack"

[scoring]
absence = "dev-toolkit"
bootstrap = 10

[logs]
show = "full"
"""


def load(folder: Path, text: str) -> Tournament:
    file = folder / "t.toml"
    file.write_text(text, encoding="utf-8")
    return load_tournament(file)


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with a tournament file, each without the path of its folder."""
    with pytest.raises(InvalidConfig) as caught:
        load(folder, text)
    return [each.replace(f"{folder}/", "") for each in caught.value.problems]


def test_the_defaults_are_those_of_the_rules(tmp_path: Path) -> None:
    tournament = load(tmp_path, SMALLEST)
    assert tournament.dataset.images is None
    assert tournament.dataset.seed == 0
    assert tournament.threat.max_epsilons == (4, 8, 12, 16)
    assert tournament.threat.schedule is Schedule.GRID
    assert tournament.entries.attacks == tournament.entries.defenses == ()
    assert tournament.sandbox.backend is Backend.AUTO
    assert tournament.sandbox.images == ()
    assert tournament.sandbox.image_map == {}
    assert tournament.defense.view is DefenseView.LATIN
    assert tournament.scoring.absence is Absence.PAPER
    assert tournament.scoring.bootstrap == 1000
    assert tournament.logs.show is LogPolicy.SMOKE
    assert tournament.limits.for_images(100) == Limits(
        wall_s=560,
        memory_bytes=4 * 1024**3,
        cpus=1,
        gpus=0,
        pids=512,
        output_bytes=4 * 1024**3,
        log_bytes=1024**2,
    )


def test_every_key_of_the_rules_is_read(tmp_path: Path) -> None:
    tournament = load(tmp_path, EVERY_KEY)
    plain, table = tournament.entries.attacks
    assert tournament.path == tmp_path / "t.toml"
    assert tournament.name == "final.round-2"
    assert tournament.dataset.source is DatasetSource.FOLDER
    assert tournament.dataset.images == 300
    assert tournament.dataset.seed == 7
    assert tournament.threat.max_epsilons == (48, 0, 255)
    assert tournament.threat.schedule is Schedule.ROUND_ROBIN
    assert (plain.path, plain.name, plain.team, plain.baseline) == ("a", None, None, False)
    assert (table.path, table.name, table.team) == ("b", "c", "Red team")
    assert table.files == {"w/x": "y"}
    assert tournament.entries.defenses[0].baseline
    assert tournament.sandbox.backend is Backend.PODMAN
    assert tournament.sandbox.images == ("advcomp/runtime",)
    assert tournament.sandbox.image_map == {"iwiwi/nips17-adversarial": "advcomp/runtime"}
    assert tournament.defense.view is DefenseView.PER_ATTACK
    assert tournament.scoring.absence is Absence.DEV_TOOLKIT
    assert tournament.scoring.bootstrap == 10
    assert tournament.logs.show is LogPolicy.FULL
    assert tournament.limits.for_images(250) == Limits(
        wall_s=26.5,
        memory_bytes=3 * 1024**3 // 2,
        cpus=0.5,
        gpus=1,
        pids=64,
        output_bytes=500_000_000,
        log_bytes=4096,
    )


def test_paths_of_the_dataset_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.toml").write_text(EVERY_KEY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    dataset = load_tournament(Path("../t.toml")).dataset
    assert dataset.images_dir == tmp_path / "hidden/images"
    assert dataset.csv is not None
    assert dataset.csv.resolve() == tmp_path.parent / "labels.csv"


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("1", 1),
        ('"7 B"', 7),
        ('"3 kB"', 3000),
        ('"3 KiB"', 3072),
        ('"500 MB"', 500_000_000),
        ('"1 MiB"', 1 << 20),
        ('"1GiB"', 1 << 30),
        ('"0.5 TiB"', 1 << 39),
    ],
)
def test_sizes_are_read_as_bytes(tmp_path: Path, written: str, size: int) -> None:
    assert load(tmp_path, f"{SMALLEST}[limits]\nlog = {written}").limits.log == size


SIZE = 'a size such as "4 GiB" or "500 MB", or a number of bytes, at least'
MEMORY = f"{SIZE} 32 MiB: no program starts in less"
OUTPUT = f"{SIZE} 4,096: no file fits into less"
START = "start_seconds: expected seconds, at least 0.1: no program starts in less"
CPUS = "cpus: expected a number of processors, at least 0.01, the least that Linux gives"
PIDS = "pids: expected an integer, 1 to 4,000,000"
LEVELS = "one or more pixel levels, integers 0 to 255, each once"
NAME = 'a name of 1 to 64 letters, digits, ".", "_" and "-" that starts with a letter or a digit'
ITEMS = (
    "a list; each item the path of a folder or archive, a glob,"
    " or a table { path, name, team, baseline, held_out, randomised, display, url,"
    " files = { inside = outside } }"
)
INSIDE = (
    'expected the path of a file relative to the entry, and inside it, such as "model/weights'
    '.safetensors"; got '
)


@pytest.mark.parametrize(
    ("table", "line", "problem"),
    [
        ("dataset", 'images_dir = "x"', 'images_dir: goes only with source = "folder"'),
        ("dataset", 'csv = "x"', 'csv: goes only with source = "folder"'),
        ("dataset", "images = 0", "images: expected an integer, at least 1 (left out: all"),
        ("dataset", "images = 1.0", "images: expected an integer, at least 1 (left out: all"),
        ("dataset", "seed = -1", "seed: expected an integer, at least 0; got -1"),
        ("dataset", "seed = true", "seed: expected an integer, at least 0; got true"),
        ("dataset", "sed = 1", 'sed: unknown key; the nearest known one is "seed"'),
        ("threat", "max_epsilons = []", f"max_epsilons: expected {LEVELS}; got []"),
        ("threat", "max_epsilons = 16", f"max_epsilons: expected {LEVELS}; got 16"),
        ("threat", "max_epsilons = [1, 256]", f"max_epsilons[1]: expected {LEVELS}; got 256"),
        ("threat", "max_epsilons = [-1]", f"max_epsilons[0]: expected {LEVELS}; got -1"),
        ("threat", "max_epsilons = [0.5]", f"max_epsilons[0]: expected {LEVELS}; got 0.5"),
        ("threat", "max_epsilons = [4, 4]", f"max_epsilons: expected {LEVELS}; got [4, 4]"),
        ("threat", 'schedule = "g"', 'schedule: expected one of grid, round-robin; got "g"'),
        ("threat", "epsilons = [4]", 'epsilons: unknown key; the nearest known one is "max_eps'),
        ("entries", 'attacks = "a"', f'attacks: expected {ITEMS}; got "a"'),
        ("entries", "defenses = [1]", f"defenses[0]: expected {ITEMS}; got 1"),
        ("entries", 'attacks = [""]', "attacks[0] path: expected the path of a folder"),
        ("entries", "attacks = [{}]", "attacks[0] path: missing; expected the path of"),
        ("entries", 'atacks = ["a"]', 'atacks: unknown key; the nearest known one is "attacks"'),
        (
            "entries",
            'attacks = ["a", { path = "b", name = "-" }]',
            f'attacks[1] name: expected {NAME}; got "-"',
        ),
        (
            "entries",
            f'attacks = [{{ path = "b", name = "{"x" * 65}" }}]',
            f"attacks[0] name: expected {NAME}; got",
        ),
        ("entries", 'attacks = [{ path = "b", team = "" }]', "attacks[0] team: expected a team's"),
        (
            "entries",
            'attacks = [{ path = "b", baseline = 1 }]',
            "attacks[0] baseline: expected true or false; got 1",
        ),
        (
            "entries",
            'attacks = [{ path = "b", file = {} }]',
            'attacks[0] file: unknown key; the nearest known one is "files"',
        ),
        ("entries", 'attacks = [{ path = "b", files = "c" }]', "attacks[0] files: expected a t"),
        (
            "entries",
            'attacks = [{ path = "b", files = { "../x" = "c" } }]',
            f'attacks[0] files ../x: {INSIDE}"../x"',
        ),
        (
            "entries",
            'attacks = [{ path = "b", files = { "/x" = "c" } }]',
            f'attacks[0] files /x: {INSIDE}"/x"',
        ),
        (
            "entries",
            'attacks = [{ path = "b", files = { "w//x" = "c" } }]',
            f'attacks[0] files w//x: {INSIDE}"w//x"',
        ),
        (
            "entries",
            'attacks = [{ path = "b", files = { "." = "c" } }]',
            f'attacks[0] files .: {INSIDE}"."',
        ),
        (
            "entries",
            'attacks = [{ path = "b", files = { "w" = "c", "w/x" = "c" } }]',
            'attacks[0] files: "w" cannot be a file and the folder of "w/x"',
        ),
        ("sandbox", 'backend = "vm"', "backend: expected one of bubblewrap, docker, podman, gvis"),
        (
            "sandbox",
            'images = "x"',
            "images: expected a list of names of container images such as",
        ),
        ("sandbox", "image_map = { a = 1 }", "image_map a: expected a table"),
        ("sandbox", 'images = ["a", "--all-tags"]', "images[1]: expected a list of names"),
        ("sandbox", 'image_map = { a = "b c" }', "image_map a: expected a table"),
        ("sandbox", 'back_end = "auto"', 'back_end: unknown key; the nearest known one is "backe'),
        ("limits", "start_seconds = 0", f"{START}; got 0"),
        ("limits", "start_seconds = 0.099", f"{START}; got 0.099"),
        (
            "limits",
            "seconds_per_100_images = inf",
            "seconds_per_100_images: expected seconds, more than 0; got Infinity",
        ),
        ("limits", 'memory = "4 gigs"', f'memory: expected {MEMORY}; got "4 gigs"'),
        ("limits", "memory = 0", f"memory: expected {MEMORY}; got 0"),
        ("limits", 'memory = "1 B"', f'memory: expected {MEMORY}; got "1 B"'),
        ("limits", "memory = 33554431", f"memory: expected {MEMORY}; got 33554431"),
        ("limits", "output = -1", f"output: expected {OUTPUT}; got -1"),
        ("limits", 'output = "-1 B"', f'output: expected {OUTPUT}; got "-1 B"'),
        ("limits", 'output = "4 kB"', f'output: expected {OUTPUT}; got "4 kB"'),
        ("limits", "log = true", f"log: expected {SIZE} 1; got true"),
        ("limits", "log = 1.5", f"log: expected {SIZE} 1; got 1.5"),
        ("limits", 'log = "9999999999 TiB"', f'log: expected {SIZE} 1; got "9999999999 TiB"'),
        ("limits", "cpus = 0", f"{CPUS}; got 0"),
        ("limits", "cpus = 0.0099", f"{CPUS}; got 0.0099"),
        ("limits", "cpus = nan", f"{CPUS}; got NaN"),
        ("limits", 'cpus = "1"', f'{CPUS}; got "1"'),
        ("limits", "gpus = 0.5", "gpus: expected an integer, at least 0; got 0.5"),
        ("limits", "pids = 0", f"{PIDS}; got 0"),
        ("limits", "pids = 4_000_001", f"{PIDS}; got 4000001"),
        ("limits", "memroy = 1", 'memroy: unknown key; the nearest known one is "memory"'),
        ("defense", 'view = "latn"', "view: expected one of latin, pooled, per-attack; got"),
        ("defense", 'views = "latin"', 'views: unknown key; the nearest known one is "view"'),
        ("scoring", 'absence = "no"', "absence: expected one of paper, eval-infra, dev-toolkit;"),
        ("scoring", "bootstrap = 0", "bootstrap: expected an integer, 1 to 1,000,000; got 0"),
        (
            "scoring",
            "bootstrap = 10_000_000",
            "bootstrap: expected an integer, 1 to 1,000,000; got 10000000",
        ),
        ("scoring", "bootstraps = 1", 'bootstraps: unknown key; the nearest known one is "boots'),
        ("logs", 'show = "all"', 'show: expected one of smoke, tail, full; got "all"'),
        ("logs", 'shown = "all"', 'shown: unknown key; the nearest known one is "show"'),
    ],
)
def test_a_wrong_value_or_key_is_named_with_its_line(
    tmp_path: Path, table: str, line: str, problem: str
) -> None:
    header = "" if table == "dataset" else f"[{table}]\n"
    number = 4 if table == "dataset" else 5
    (found,) = problems(tmp_path, f"{SMALLEST}{header}{line}\n")
    assert found.startswith(f"t.toml:{number}: [{table}] {problem}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["t.toml: name: missing; expected a name", "t.toml: dataset: missing; expected the"]),
        ('name = "t"\n[dataset]', ["t.toml:2: [dataset] source: missing; expected one of digits"]),
        ('name = "a b"' + SMALLEST[10:], [f't.toml:1: name: expected {NAME}; got "a b"']),
        (
            'nam = "x"\n' + SMALLEST,
            ['t.toml:1: nam: unknown key; the nearest known one is "name"'],
        ),
        (SMALLEST + "[limit]\ncpus = 1", ["t.toml:4: limit: unknown key; the nearest known one"]),
        (
            SMALLEST + 'csv = "a\\u0000b"\n',
            ['t.toml: expected text without NUL characters (\\u0000); got "a\\u0000b"'],
        ),
        ("limits = 3\n" + SMALLEST, ["t.toml:1: limits: expected a table; got 3"]),
        (
            SMALLEST.replace("digits", "digit"),
            ['t.toml:3: [dataset] source: expected one of digits, folder; got "digit"'],
        ),
        (
            SMALLEST.replace("digits", "folder"),
            [
                't.toml:2: [dataset] images_dir: missing; source = "folder" needs it',
                't.toml:2: [dataset] csv: missing; source = "folder" needs it',
            ],
        ),
        (
            SMALLEST.replace("digits", "folder") + 'csv = 3\nimages_dir = ""',
            [
                "t.toml:4: [dataset] csv: expected the path of the CSV of labels; got 3",
                "t.toml:5: [dataset] images_dir: expected the path of the folder of images; got",
            ],
        ),
    ],
)
def test_what_is_wrong_above_single_values_is_named(
    tmp_path: Path, text: str, found: list[str]
) -> None:
    actual = problems(tmp_path, text)
    assert len(actual) == len(found)
    assert all(each.startswith(start) for each, start in zip(actual, found, strict=True)), actual


def test_all_problems_are_reported_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = 'nmae = "t"\n[limits]\ncpus = 0\nmemory = ""\n[dataset]\nsource = "x"\nseed = -1\n'
    places = [each.split(": ")[:2] for each in problems(tmp_path, text)]
    assert places == [
        ["t.toml", "name"],
        ["t.toml:1", "nmae"],
        ["t.toml:3", "[limits] cpus"],
        ["t.toml:4", "[limits] memory"],
        ["t.toml:6", "[dataset] source"],
        ["t.toml:7", "[dataset] seed"],
    ]


def test_a_known_key_in_the_wrong_table_is_sent_home(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f'{SMALLEST}[scoring]\nview = "latin"')
    assert found.endswith("(or do you mean [defense] view?)")


def test_lines_are_found_through_dotted_keys_quotes_and_inline_tables(tmp_path: Path) -> None:
    text = (
        f'limits.cpus = 0\nthreat = {{ max_epsilons = [0, 256] }}\n{SMALLEST}["logs"]\n"show" = 1'
    )
    places = [each.split(": ")[0] for each in problems(tmp_path, text)]
    assert places == ["t.toml:1", "t.toml:2", "t.toml:7"]


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, 'name = "t"\n[dataset\n')
    assert found.startswith("t.toml: expected TOML; ")
    assert "line 2" in found


def test_a_file_that_cannot_be_read_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "latin1.toml").write_bytes(b'name = "\xe9"')
    for name, reason in {
        "missing.toml": "cannot be read: No such file or directory",
        ".": "cannot be read: Is a directory",
        "latin1.toml": "expected UTF-8 text; got byte 0xe9 at offset 8",
    }.items():
        with pytest.raises(InvalidConfig, match=reason):
            load_tournament(tmp_path / name)


def test_editors_of_other_systems_are_welcome(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load_tournament(tmp_path / "t.toml").name == "t"


def test_a_tournament_does_not_change(tmp_path: Path) -> None:
    tournament = load(tmp_path, SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        tournament.threat.max_epsilons = (1,)


def test_more_processors_than_the_machine_has_are_refused(tmp_path: Path) -> None:
    tournament = load(tmp_path, f"{SMALLEST}[limits]\ncpus = 2.5")
    check_machine(tournament, 3)
    with pytest.raises(InvalidConfig) as caught:
        check_machine(tournament, 2)
    assert caught.value.problems == (
        f"{tmp_path}/t.toml:5: [limits] cpus: expected at most the 2 processors of this machine;"
        " got 2.5",
    )


@pytest.mark.parametrize(
    ("schedule", "images", "at_once", "written"),
    [("grid", 250, 1000, 250), ("grid", 250, 40, 40), ("round-robin", 250, 1000, 150)],
)
def test_an_output_folder_without_room_for_one_run_is_refused(
    tmp_path: Path, schedule: str, images: int, at_once: int, written: int
) -> None:
    """The batches of a round robin are of 100: the first budget has the images past 200, too."""
    threat = f'[threat]\nmax_epsilons = [8, 16]\nschedule = "{schedule}"\n'
    least = written * 4096
    enough = load(tmp_path, f"{SMALLEST}{threat}[limits]\noutput = {least}")
    check_room(enough, images, at_once)
    too_little = load(tmp_path, f"{SMALLEST}{threat}[limits]\noutput = {least - 1}")
    with pytest.raises(InvalidConfig) as caught:
        check_room(too_little, images, at_once)
    assert caught.value.problems == (
        f"{tmp_path}/t.toml:8: [limits] output: expected at least {least:,} bytes: an attack"
        f" writes {written} images, and a file takes 4,096 bytes or more; got {least - 1:,}",
    )


def test_gpus_are_refused_before_anything_runs(tmp_path: Path) -> None:
    tournament = load(tmp_path, f"{SMALLEST}[limits]\ngpus = 1\ncpus = 4")
    with pytest.raises(InvalidConfig) as caught:
        check_machine(tournament, 2)
    assert [problem.partition(": expected")[0] for problem in caught.value.problems] == [
        f"{tmp_path}/t.toml:6: [limits] cpus",
        f"{tmp_path}/t.toml:5: [limits] gpus",
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("images = 300", "images = 299"),
        ("seed = 7", "seed = 8"),
        ('"hidden/images"', '"images"'),
        ('"../labels.csv"', '"labels.csv"'),
        ('"folder"\n', '"folder" # as before\n'),
        ("[48, 0, 255]", "[48, 255]"),
        ('"round-robin"', '"grid"'),
        ('"per-attack"', '"latin"'),
    ],
)
def test_the_identity_is_dataset_threat_defense_and_backend(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    old = load(tmp_path, EVERY_KEY).identity("bubblewrap", "d1")
    new = load(tmp_path, EVERY_KEY.replace(*change)).identity("bubblewrap", "d1")
    assert len(difference(old, new)) == ("as before" not in change[1])


def test_scoring_limits_entries_and_logs_may_change_freely(tmp_path: Path) -> None:
    kept = EVERY_KEY.partition("[entries]")[0] + '[defense]\nview = "per-attack"'
    old = load(tmp_path, EVERY_KEY).identity("docker", "d1")
    assert difference(old, load(tmp_path, kept).identity("docker", "d1")) == []


def test_differences_are_lines_that_say_what_was_and_what_is(tmp_path: Path) -> None:
    old = load(tmp_path, SMALLEST).identity("bubblewrap", "d1")
    text = f'{SMALLEST}images = 10\n[threat]\nmax_epsilons = [8]\n[defense]\nview = "pooled"'
    assert difference(old, load(tmp_path, text).identity("docker", "d1")) == [
        "[dataset] images: was left out, is now 10",
        "[threat] max_epsilons: was [4, 8, 12, 16], is now [8]",
        '[defense] view: was "latin", is now "pooled"',
        '[sandbox] backend: was "bubblewrap", is now "docker"',
    ]


def test_a_tournament_may_move_with_its_data(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    old = load(tmp_path, EVERY_KEY).identity("docker", "d1")
    assert load(tmp_path / "moved", EVERY_KEY).identity("docker", "d1") == old
