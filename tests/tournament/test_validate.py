"""`validate`: the same box, limits and judge as in a tournament, on images that say nothing."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from support.command import advcomp
from support.contest import BRIGHTNESS, COPY, DARKER, Contest

from advcomp.errors import InvalidConfig
from advcomp.tournament.competitor.validate import drawn_images, find_target

CONSTANT = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'
SIZES = """\
#!/usr/bin/env python3
import sys
from pathlib import Path
from PIL import Image
print({Image.open(path).size for path in Path(sys.argv[1]).glob("*.png")}, sys.argv[3:])
sys.exit(9)
"""


def validate(target: str | Path, *options: str) -> Result:
    return advcomp("validate", target, *options)


def test_a_valid_attack_is_tried_at_every_budget_of_its_tournament(contest: Contest) -> None:
    file = contest.file([contest.entry("darker", DARKER)], [])
    result = validate(f"{file}:darker")
    assert result.exit_code == 0, result.output
    for expected in (
        "trial run at epsilon 8, 10 drawn images: OK",
        "trial run at epsilon 32, 10 drawn images: OK",
        " of at most 1 min 50 s, start included; 100 images may take 9 min 20 s\n",
        " of at most 4.0 GiB",
        "10 of 10 images valid",
        "darker: valid",
    ):
        assert expected in result.stdout
    assert "over the budget" not in result.stdout


def test_a_valid_defense_is_tried_once(contest: Contest) -> None:
    file = contest.file([], [contest.entry("bright", BRIGHTNESS, "defense")])
    result = validate(f"{file}:bright")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("trial run") == 1
    assert "10 of 10 labels valid" in result.stdout


def test_images_over_the_budget_are_counted_and_no_fault(contest: Contest) -> None:
    """40 levels darker: clipped at 8 and at 32."""
    darker = contest.entry("darker", DARKER.replace("int(sys.argv[3])", "40"))
    result = validate(f"{contest.file([darker], [])}:darker")
    assert result.exit_code == 0
    assert result.stdout.count("10 over the budget") == 2


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (f"sleep 0.5; {COPY}", False),
        (f'for f in "$1"/*; do sleep 0.05; done; {COPY}', True),
    ],
    ids=["the start", "every image"],
)
def test_a_slow_start_is_told_from_slow_work(contest: Contest, program: str, told: bool) -> None:
    """Half a second for 10 images, where 100 may take 2."""
    limits = "[limits]\nstart_seconds = 1\nseconds_per_100_images = 1\n"
    file = contest.file([contest.entry("slow", program)], [], max_epsilons=[8], more=limits)
    few = validate(f"{file}:slow")
    assert few.exit_code == 0
    assert "  at epsilon 8: start " in few.stdout
    assert ("of at most 2.0 s: too long\n" in few.stdout) is told
    if not told:
        many = validate(f"{file}:slow", "--images", "100")
        assert many.exit_code == 0
        assert "100 drawn images: OK" in many.stdout
        assert "an image: " not in many.stdout


def test_drawn_images_have_the_size_that_is_asked_for(contest: Contest) -> None:
    shown = validate(contest.entry("sizes", SIZES), "--size", "32x48").stdout
    assert "{(48, 32)}" in shown
    file = contest.file([contest.entry("darker", DARKER)], [])
    refused = validate(f"{file}:darker", "--size", "32x32")
    assert refused.exit_code == 1
    assert "have the size of its dataset; leave --size out" in refused.stderr
    assert validate(file, "--size", "32").exit_code == 2


def test_missing_images_make_an_entry_invalid_and_are_named(contest: Contest) -> None:
    half = 'n=0; for f in "$1"/*; do n=$((n+1)); [ $n -gt 5 ] || cp "$f" "$2"; done'
    file = contest.file([contest.entry("half", half)], [], max_epsilons=[8])
    result = validate(f"{file}:half")
    assert result.exit_code == 1
    assert "PARTIAL" in result.stdout
    assert "5 of 10 images valid" in result.stdout
    assert "missing 5 of 10: drawn-" in result.stdout
    assert "half: INVALID: 1 run not OK" in result.stdout


def test_a_failure_shows_how_it_ended_and_the_end_of_its_log(contest: Contest) -> None:
    """The images have the size of the tournament's dataset."""
    file = contest.file([contest.entry("sizes", SIZES)], [], max_epsilons=[8])
    result = validate(f"{file}:sizes")
    assert result.exit_code == 1
    for expected in ("CRASHED", "exit code 9", "end of its log:", "{(7, 5)} ['8']"):
        assert expected in result.stdout


def test_without_a_tournament_the_images_are_those_of_2017(contest: Contest) -> None:
    result = validate(contest.entry("sizes", SIZES))
    assert result.exit_code == 1
    assert "trial run at epsilon 16" in result.stdout
    assert "{(299, 299)} ['16']" in result.stdout


def test_a_folder_may_be_an_attack_or_a_defense(contest: Contest) -> None:
    assert "copy (attack)" in validate(contest.entry("copy", COPY)).stdout
    defense = contest.entry("three", CONSTANT, "defense")
    assert "three (defense)" in validate(defense).stdout


def test_all_problems_of_a_submission_are_listed(contest: Contest) -> None:
    entry = contest.entry("bad", COPY, kind="atack", container=7, entry_point="../run.sh")
    result = validate(entry)
    assert result.exit_code == 1
    assert "bad: INVALID: 3 problems" in result.stdout
    for key in ("type", "container", "entry_point"):
        assert f'"{key}"' in result.stdout
    assert "trial run" not in result.stdout


def test_the_tournaments_files_are_laid_over(contest: Contest) -> None:
    (contest.folder / "secret").write_text("42")
    reads = contest.entry("reads", f"[ $(cat given) = 42 ] && {COPY}")
    file = contest.file([reads], [])
    item = f'{{ path = "{reads}", files = {{ given = "secret" }} }}'
    file.write_text(file.read_text().replace(f'"{reads}"', item))
    assert validate(f"{file}:reads").exit_code == 0
    assert validate(reads).exit_code == 1


def test_a_tournament_file_alone_validates_every_entry(contest: Contest) -> None:
    attacks = [contest.entry("crash", "exit 1"), contest.entry("copy", COPY)]
    file = contest.file(attacks, [contest.entry("three", CONSTANT, "defense")], max_epsilons=[8])
    result = validate(file)
    assert result.exit_code == 1
    ends = [line for line in result.stdout.splitlines() if line.endswith((": valid", "not OK"))]
    assert ends == ["crash: INVALID: 1 run not OK", "copy: valid", "three: valid"]


def test_an_attack_that_is_entered_as_a_defense_is_invalid(contest: Contest) -> None:
    file = contest.file([], [contest.entry("copy", COPY)])
    result = validate(f"{file}:copy")
    assert result.exit_code == 1
    assert "it is entered as defense" in result.stdout


def test_a_name_or_a_path_that_is_not_there_is_told(contest: Contest, tmp_path: Path) -> None:
    file = contest.file([contest.entry("copy", COPY)], [])
    with pytest.raises(InvalidConfig, match='no entry "cpoy"; there are copy'):
        find_target(f"{file}:cpoy")
    result = validate(tmp_path / "nothing")
    assert result.exit_code == 1
    assert "there is nothing" in result.stderr


def test_a_folder_whose_name_has_a_colon_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a.toml:b"
    folder.mkdir()
    assert [source.path for source in find_target(str(folder)).sources] == [folder]


def test_drawn_images_are_always_the_same_and_all_different() -> None:
    once, again = (list(drawn_images(20, 30, 11)) for _ in range(2))
    digests = {sha256(image.image.tobytes()).digest() for image in once}
    assert len(digests) == len(once) == 11
    for image, same in zip(once, again, strict=True):
        assert np.array_equal(image.image, same.image)
        assert image.image.shape == (20, 30, 3)


ALL_WRONG = """\
#!/usr/bin/env python3
import sys
from pathlib import Path
from PIL import Image
for number, path in enumerate(sorted(Path(sys.argv[1]).glob("*.png"))):
    image, out = Image.open(path), Path(sys.argv[2]) / path.name
    if number < 5:
        image.resize((9, 7)).save(out)
    elif number < 8:
        image.save(out, "JPEG")
    elif number < 9:
        out.write_bytes(path.read_bytes()[:90])
"""


def test_why_images_are_not_valid_is_said_also_where_only_the_decoder_sees_it(
    contest: Contest,
) -> None:
    """Truncated after the header: only the box finds it, and answers with a byte."""
    result = validate(f"{contest.file([contest.entry('wrong', ALL_WRONG)], [])}:wrong")
    assert result.exit_code == 1
    assert result.stdout.count("5 images are 9x7, expected ") == 2
    for expected in ("3 images are JPEG, expected PNG", "1 image is truncated",
                     "1 image is not there", "processor time "):  # fmt: skip
        assert expected in result.stdout


def test_why_labels_are_not_valid_is_said(contest: Contest) -> None:
    script = 'for f in "$1"/*.png; do echo "$f,3"; done > "$2"'
    result = validate(f"{contest.file([], [contest.entry('paths', script, 'defense')])}:paths")
    assert "10 labels are behind a path, expected the file name alone" in result.stdout


def test_a_module_that_the_box_lacks_is_named(contest: Contest) -> None:
    script = "#!/usr/bin/env python3\nimport no_such_module\n"
    result = validate(f"{contest.file([contest.entry('lacks', script)], [])}:lacks")
    assert 'hint: the box has no Python module "no_such_module"' in result.stdout
    assert "advcomp doctor --packages" in result.stdout
