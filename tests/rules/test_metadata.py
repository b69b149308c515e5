"""metadata.json: every refusal in words, all at once; the referee's side believes no answer."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from advcomp.errors import InvalidSubmission
from advcomp.rules.metadata import MAX_ANSWER_BYTES, read_metadata
from advcomp.rules.metadata_answer import Metadata, read_metadata_answer
from advcomp.rules.submission_type import SubmissionType

GOOD: dict[str, Any] = {
    "type": "attack",
    "container": "gcr.io/tensorflow/tensorflow:1.1.0",
    "container_gpu": "gcr.io/tensorflow/tensorflow:1.1.0-gpu",
    "entry_point": "run_attack.sh",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "entry"
    (root / "sub").mkdir(parents=True)
    for name in ("run_attack.sh", "sub/run.sh", "é.sh"):
        (root / name).touch()
    return root


def read(folder: Path, content: object) -> tuple[Metadata, tuple[str, ...]]:
    """Parse on the box's side, then read the answer on the referee's."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "metadata.json").write_bytes(data)
    answer = read_metadata(folder).line().encode()
    assert len(answer) <= MAX_ANSWER_BYTES
    return read_metadata_answer(answer, "fgsm")


def problems(folder: Path, content: object) -> list[str]:
    with pytest.raises(InvalidSubmission) as caught:
        read(folder, content)
    return [problem.removeprefix("fgsm/metadata.json: ") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("MetaData.JSON", '; rename "MetaData.JSON"'),
        ("sub/metadata.json", '; "sub/metadata.json" is there: submit its folder alone'),
        ("a/b/metadata.json", '; "a/b/metadata.json" is there: submit its folder alone'),
        ("fgsm.tar.gz", '; "fgsm.tar.gz" is there: submit that archive, in no other'),
        ("other.json", ""),
    ],
)
def test_metadata_that_stands_elsewhere_is_found(folder: Path, name: str, remedy: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    assert read_metadata(folder).problems == (
        f"metadata.json: is missing; it must stand at the submission's root{remedy}",
    )


def test_metadata_of_2017_is_read(folder: Path) -> None:
    metadata, notes = read(folder, GOOD)
    assert metadata == Metadata(**GOOD)
    assert metadata.type is SubmissionType.ATTACK
    assert notes == ()


@pytest.mark.parametrize("kind", list(SubmissionType))
def test_every_type_is_known(folder: Path, kind: SubmissionType) -> None:
    assert read(folder, GOOD | {"type": kind})[0].type is kind


@pytest.mark.parametrize("absent", ["container", "container_gpu"])
def test_one_container_is_enough(folder: Path, absent: str) -> None:
    metadata, _ = read(folder, {key: GOOD[key] for key in GOOD if key != absent})
    assert getattr(metadata, absent) is None


def test_unknown_keys_are_ignored_with_a_note(folder: Path) -> None:
    metadata, notes = read(folder, GOOD | {"author": {"name": "x"}, "\x1b[2J\n": 1})
    assert metadata == Metadata(**GOOD)
    assert notes == (
        'fgsm/metadata.json: "author" is unknown and ignored',
        'fgsm/metadata.json: "\\u001b[2J\\n" is unknown and ignored',
    )


def test_a_byte_order_mark_means_nothing(folder: Path) -> None:
    assert read(folder, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())[0] == Metadata(**GOOD)


@pytest.mark.parametrize(
    ("entry_point", "path"),
    [("./run_attack.sh", "run_attack.sh"), ("sub/run.sh", "sub/run.sh"),
     ("sub//./run.sh", "sub/run.sh"), ("é.sh", "é.sh")],
)  # fmt: skip
def test_entry_points_are_brought_into_normal_form(
    folder: Path, entry_point: str, path: str
) -> None:
    assert read(folder, GOOD | {"entry_point": entry_point})[0].entry_point == path


TYPES = '"type" must be one of attack, targeted_attack, defense; got'
CONTAINER = '"container" must be the name of a container image'
ENTRY = '"entry_point" must be the path of a file in the submission; got'


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"type": "atack"}, f'{TYPES} "atack"'),
        ({"type": "Attack"}, f'{TYPES} "Attack"'),
        ({"type": None}, f"{TYPES} null"),
        ({"type": ["attack"]}, f'{TYPES} ["attack"]'),
        ({"container": 5}, f"{CONTAINER}: 1 to 512 printable ASCII characters, no spaces; got 5"),
        ({"container": ""}, CONTAINER),
        ({"container": "a b"}, CONTAINER),
        ({"container": "a\n"}, CONTAINER),
        ({"container": "x" * 513}, CONTAINER),
        ({"container_gpu": {}}, '"container_gpu" must be the name of a container image, or'),
        ({"entry_point": 5}, f"{ENTRY} 5"),
        ({"entry_point": ""}, f'{ENTRY} ""'),
        ({"entry_point": "missing.sh"}, f'{ENTRY} "missing.sh", which is no file there'),
        ({"entry_point": "sub"}, f'{ENTRY} "sub", which is no file there'),
        ({"entry_point": "."}, f'{ENTRY} ".", which has an empty part in its path'),
        ({"entry_point": "run_attack.sh/x"}, f'{ENTRY} "run_attack.sh/x", which is no file there'),
        ({"entry_point": "/bin/sh"}, f'{ENTRY} "/bin/sh", which is an absolute path'),
        ({"entry_point": "../entry/run_attack.sh"},
         f'{ENTRY} "../entry/run_attack.sh", which has a ".." in its path'),
        ({"entry_point": "sub/../run_attack.sh"},
         f'{ENTRY} "sub/../run_attack.sh", which has a ".." in its path'),
        ({"entry_point": "a\0b"}, f'{ENTRY} "a\\u0000b", which has a backslash or a character'),
        ({"entry_point": "x" * 5000}, ENTRY),
        ({"entry_point": "\ud800"}, ENTRY),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_wrong_value_is_told_with_what_it_must_be(
    folder: Path, change: dict[str, Any], problem: str
) -> None:
    told = problems(folder, GOOD | change)
    assert told[0].startswith(problem)
    assert all(len(sentence) < 500 and sentence.isascii() for sentence in told)


@pytest.mark.parametrize("absent", ["type", "entry_point"])
def test_a_missing_key_is_told(folder: Path, absent: str) -> None:
    (problem,) = problems(folder, {key: GOOD[key] for key in GOOD if key != absent})
    assert problem.startswith(f'"{absent}" must be')
    assert problem.endswith("got nothing")


def test_a_wrong_value_is_told_with_its_line(folder: Path) -> None:
    content = {"type": "atack", "container": 5, "entry_point": "missing.sh"}
    told = problems(folder, json.dumps(content, indent=1).encode())
    assert [sentence.rpartition(" (")[2] for sentence in told] == ["line 2)", "line 3)", "line 4)"]


@pytest.mark.parametrize("last", [b'"a": {"type": 1}, "type": 2', b'"\\u0074ype": 2'])
def test_a_line_that_could_be_another_is_not_told(folder: Path, last: bytes) -> None:
    data = b'{"container": "x", "entry_point": "run_attack.sh", %s}' % last
    (told,) = problems(folder, data)
    assert told.endswith("got 2")


def test_a_misspelt_key_is_told_the_nearest_as_problem_and_as_note(folder: Path) -> None:
    told = problems(folder, {"type": "attack", "container": "x", "entrypoint": "run_attack.sh"})
    assert told[1] == (
        '"entrypoint" is unknown and ignored; the nearest known one is "entry_point"'
    )


def test_everything_wrong_is_told_at_once(folder: Path) -> None:
    told = problems(folder, {"type": "x", "entry_point": "/x", "container_gpu": 1, "more": 2})
    assert [sentence.split('"')[1] for sentence in told] == [
        "type",
        "container_gpu",
        "entry_point",
    ]
    assert len(problems(folder, {})) == 3


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "must be JSON; got an empty file"),
        (b'{\n// mine\n"type": "attack"}', 'must be JSON; got "// mine" in line 2: Expecting'),
        (b"{", "must be JSON"),
        (b'{"type": "attack",}', "must be JSON"),
        (b"[]", 'must be a JSON object; got "[]"'),
        (b"null", 'must be a JSON object; got "null"'),
        (b'"\\u001b[2J"', "must be a JSON object"),
        (b'{"a": "\xff"}', "must be UTF-8"),
        (json.dumps(GOOD).encode("utf-16"), "must be UTF-8"),
        (b"[" * 60_000, "is nested too deeply"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "is nested too deeply"),
        (b'{"type": "attack", "type": "defense"}', 'has "type" twice'),
        (b'{"x": {"b": 1, "b": 1, "b": 2}}', 'has "b" twice'),
        (b'{"a": ' + b"1" * 5000 + b"}", "must be JSON"),
        (b" " * 65_537, "must have at most 65,536 bytes"),
    ],
    ids=["empty", "comment", "cut", "comma", "list", "null", "string", "bytes", "utf-16",
         "deep list", "deep object", "duplicate", "deep duplicate", "long number", "long"],
)  # fmt: skip
def test_what_is_no_metadata_is_refused(folder: Path, data: bytes, problem: str) -> None:
    (told,) = problems(folder, data)
    assert told.startswith(problem)
    assert told.isascii()
    assert told.isprintable()


def test_thousands_of_problems_still_make_a_short_answer_quickly(folder: Path) -> None:
    start = time.process_time()
    pairs = b",".join(b'"%d":0,"%d":0' % (i, i) for i in range(3000))
    assert len(problems(folder, b"{" + pairs + b"}")) == 51
    emoji = {"😀" * 40 + str(i): 0 for i in range(100)}
    assert len(read(folder, GOOD | emoji)[1]) == 51
    assert time.process_time() - start < 2


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "fifo"])
def test_metadata_must_be_a_regular_file(folder: Path, kind: str) -> None:
    path = folder / "metadata.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        (folder / "other.json").write_text(json.dumps(GOOD))
        path.symlink_to("other.json")
    elif kind == "fifo":
        os.mkfifo(path)
    (problem,) = read_metadata(folder).problems
    assert problem.startswith("metadata.json: ")


def test_an_entry_point_behind_a_link_is_refused(folder: Path) -> None:
    (folder / "link.sh").symlink_to("run_attack.sh")
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere/run.sh").touch()
    (folder / "out").symlink_to("../elsewhere")
    for entry_point in ("link.sh", "out/run.sh"):
        (problem,) = problems(folder, GOOD | {"entry_point": entry_point})
        assert problem.endswith("which is no file there (line 1)")


def test_the_program_prints_one_line(folder: Path) -> None:
    (folder / "metadata.json").write_text(json.dumps(GOOD))
    program = [sys.executable, "-m", "advcomp.rules.metadata", str(folder)]
    printed = subprocess.run(program, check=True, stdout=subprocess.PIPE).stdout
    assert printed.count(b"\n") == 1
    assert read_metadata_answer(printed, "fgsm") == (Metadata(**GOOD), ())


def answer(**changes: object) -> bytes:
    return json.dumps({"metadata": GOOD, "notes": [], "problems": []} | changes).encode()


@pytest.mark.parametrize(
    "forged",
    [
        b"", b"null", b"{}", b"[]", b"\xff", b"Traceback", answer() + b"{}", answer()[:-1],
        answer(more=1), answer(metadata=None), answer(metadata=GOOD | {"more": 1}),
        answer(metadata=GOOD | {"type": "referee"}), answer(metadata=GOOD | {"container": "a\nb"}),
        answer(metadata=GOOD | {"entry_point": "../../bin/sh"}),
        answer(metadata=GOOD | {"entry_point": "/bin/sh"}),
        answer(metadata=GOOD | {"entry_point": "x" * 1025}),
        answer(metadata=GOOD | {"entry_point": ""}),
        answer(notes=["\x1b[2J"]), answer(notes=["two\nlines"]), answer(notes=["x" * 801]),
        answer(notes=["x"] * 52), answer(notes="x"), answer(problems=["é"]), answer(problems=[""]),
        answer() + b" " * MAX_ANSWER_BYTES,
    ],
)  # fmt: skip
def test_a_forged_answer_is_refused(forged: bytes) -> None:
    with pytest.raises(InvalidSubmission, match=r"^fgsm/metadata\.json: cannot be read"):
        read_metadata_answer(forged, "fgsm")


def test_an_answer_with_problems_is_refused_with_them_though_it_has_metadata() -> None:
    with pytest.raises(InvalidSubmission, match=r"^fgsm/metadata\.json: wrong\nfgsm/x: too$"):
        read_metadata_answer(answer(problems=["metadata.json: wrong", "x: too"]), "fgsm")


def test_the_program_starts_without_pydantic() -> None:
    """Which would take longer than all else that it does."""
    code = "import sys, advcomp.rules.metadata; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
