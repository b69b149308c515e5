"""metadata.json, read inside a sandbox: `python -m advcomp.rules.metadata FOLDER`.

The file comes from a stranger, so the program that parses it runs in a box and prints one line of
JSON, `{"metadata": ..., "notes": [...], "problems": [...]}`, of at most 64 KiB. The referee reads
that line with a model that knows every key, its type and its length (`metadata_answer.py`). The
box, which starts for every entry, has none: to import it takes longer than all else it does.
"""

import difflib
import json
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from advcomp.errors import InvalidSubmission
from advcomp.rules.paths import normal_path, path_fault, shown
from advcomp.rules.submission_type import SubmissionType

FILE_NAME = "metadata.json"
MAX_ANSWER_BYTES = 1 << 16

_MAX_FILE_BYTES = 1 << 16
MAX_SENTENCES = 50
_SHOWN = 120
IMAGE_NAME = re.compile("[!-~]{1,512}")
MAX_ENTRY_POINT = 1024
_TYPES = ", ".join(SubmissionType)
_MUST_BE = {
    "type": f"one of {_TYPES}",
    "container": "the name of a container image: 1 to 512 printable ASCII characters, no spaces",
    "container_gpu": "the name of a container image, or absent",
    "entry_point": "the path of a file in the submission",
}


def _is_text(value: object, longest: int) -> bool:
    """Whether it is one to so many characters that can be written as UTF-8."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= longest
        and not re.search("[\ud800-\udfff]", value)
    )


def _is_image(value: object) -> bool:
    return value is None or (isinstance(value, str) and bool(IMAGE_NAME.fullmatch(value)))


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "type": lambda value: isinstance(value, str) and value in [*SubmissionType],
    "container": _is_image,
    "container_gpu": _is_image,
    "entry_point": lambda value: _is_text(value, MAX_ENTRY_POINT),
}
"""Key -> whether a value may stand there."""
_OPTIONAL = ("container", "container_gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the program prints: the fields, or problems; and notes in any case."""

    metadata: Mapping[str, str | None] | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def line(self) -> str:
        """As JSON, on one line of ASCII."""
        return json.dumps(asdict(self))


def read_metadata(folder: Path) -> Findings:
    """Parse `folder`/metadata.json; all that is wrong becomes a problem, never an exception."""
    try:
        data = _read(folder / FILE_NAME)
        fields, unknown = _known_fields(_parse(data))
    except InvalidSubmission as error:
        return Findings(problems=_capped(error.problems))
    except RecursionError:
        return Findings(problems=(f"{FILE_NAME}: is nested too deeply",))
    try:
        metadata = _validate(fields, data, folder)
    except InvalidSubmission as error:
        misspelt = [note for key, note in unknown.items() if _meant(key)]
        return Findings(problems=_capped((*error.problems, *misspelt)))
    return Findings(metadata=metadata, notes=_capped(tuple(unknown.values())))


def _read(path: Path) -> bytes:
    # Follows no link, and does not wait for the other end of a FIFO.
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise InvalidSubmission(f"{FILE_NAME}: must be a regular file")
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidSubmission(
            f"{FILE_NAME}: is missing; it must stand at the submission's root"
            f"{_elsewhere(path.parent)}"
        ) from error
    except OSError as error:
        raise InvalidSubmission(f"{FILE_NAME}: cannot be read: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidSubmission(f"{FILE_NAME}: must have at most {_MAX_FILE_BYTES:,} bytes")
    return data


def _elsewhere(folder: Path) -> str:
    """What stands there that may have been meant, for the end of a message."""
    found = sorted(p.relative_to(folder) for p in folder.glob("*") if p.is_file())
    for path in found:
        if path.name.lower() == FILE_NAME:
            return f"; rename {shown(str(path))}"
    below = min((p.relative_to(folder) for p in folder.glob(f"*/**/{FILE_NAME}")), default=None)
    if below is not None:
        return f"; {shown(str(below))} is there: submit its folder alone"
    for path in found:
        if path.name.endswith((".zip", ".tar", ".tar.gz")):
            return f"; {shown(path.name)} is there: submit that archive, in no other"
    return ""


def _parse(data: bytes) -> dict[str, Any]:
    twice: list[str] = []

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        times = Counter(key for key, _ in pairs)
        twice.extend(key for key, count in times.items() if count > 1)
        return dict(pairs)

    try:
        parsed = json.loads(data.decode("utf-8-sig"), object_pairs_hook=without_duplicates)
    except UnicodeDecodeError as error:
        raise InvalidSubmission(f"{FILE_NAME}: must be UTF-8; {error.reason}") from error
    except json.JSONDecodeError as error:
        raise InvalidSubmission(f"{FILE_NAME}: must be JSON; {_no_json(error)}") from error
    except ValueError as error:
        raise InvalidSubmission(f"{FILE_NAME}: must be JSON; {_ascii(str(error))}") from error
    if twice:
        raise InvalidSubmission(*(f"{FILE_NAME}: has {shown(key)} twice" for key in twice))
    if not isinstance(parsed, dict):
        got = shown(json.dumps(parsed))
        raise InvalidSubmission(f"{FILE_NAME}: must be a JSON object; got {got}")
    return parsed


def _no_json(error: json.JSONDecodeError) -> str:
    if not error.doc.strip():
        return "got an empty file"
    line = error.doc.split("\n")[error.lineno - 1]
    return (
        f"got {shown(line)} in line {error.lineno}: {_ascii(error.msg)}, column {error.colno}; "
        "JSON has no comments, no comma behind the last item, and no single quotes"
    )


def _known_fields(parsed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys that the contract knows, with their values; a note for each other key."""
    known = {key: value for key, value in parsed.items() if key in _FIELDS}
    unknown = {
        key: f"{FILE_NAME}: {shown(key)} is unknown and ignored{_meant(key)}"
        for key in parsed
        if key not in known
    }
    return known, unknown


def _meant(key: str) -> str:
    """The known key that looks like an unknown one, for the end of a message."""
    close = difflib.get_close_matches(key.lower(), _FIELDS, n=1)
    return f'; the nearest known one is "{close[0]}"' if close else ""


def _validate(fields: dict[str, Any], data: bytes, folder: Path) -> dict[str, str | None]:
    problems = []
    if not fields.keys() & {*_OPTIONAL}:
        problems.append(_must_be("container", "nothing"))
    for key, is_valid in _FIELDS.items():
        if key not in fields and key not in _OPTIONAL:
            problems.append(_must_be(key, "nothing"))
        elif key in fields and not is_valid(fields[key]):
            problems.append(_must_be(key, json.dumps(fields[key])) + _where(key, data))
    entry_point = fields.get("entry_point")
    if isinstance(entry_point, str) and entry_point:
        where = _where("entry_point", data)
        problems.extend(p + where for p in _entry_point_problems(entry_point, folder))
    if problems:
        raise InvalidSubmission(*problems)
    return {**fields, "entry_point": normal_path(fields["entry_point"])}


def _entry_point_problems(entry_point: str, folder: Path) -> Iterator[str]:
    path = normal_path(entry_point)
    fault = path_fault(path)
    if fault is not None:
        yield f"{_must_be('entry_point', shown(entry_point))}, which {fault}"
    elif not _is_file(folder, path):
        yield f"{_must_be('entry_point', shown(entry_point))}, which is no file there"


def _is_file(folder: Path, path: str) -> bool:
    try:
        mode = (folder / path).lstat().st_mode
        return stat.S_ISREG(mode) and (folder / path).resolve().is_relative_to(folder.resolve())
    except OSError:
        return False


def _must_be(key: str, got: str) -> str:
    cut = got if len(got) <= _SHOWN else f"{got[:_SHOWN]}..."
    return f'{FILE_NAME}: "{key}" must be {_MUST_BE[key]}; got {cut}'


def _where(key: str, data: bytes) -> str:
    """The line of a key, for the end of a message; nothing where more than one could be meant."""
    before, *rest = re.split(rb'"%s"\s*:' % key.encode(), data)
    if len(rest) != 1:
        return ""
    line = 1 + before.count(b"\n")
    return f" (line {line})"


def _capped(sentences: Sequence[str]) -> tuple[str, ...]:
    rest = len(sentences) - MAX_SENTENCES
    more = [f"{FILE_NAME}: and {rest} more"] if rest > 0 else []
    return (*sentences[:MAX_SENTENCES], *more)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


if __name__ == "__main__":
    print(read_metadata(Path(sys.argv[1])).line())
