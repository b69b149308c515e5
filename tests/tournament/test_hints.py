"""Hints: what a failed trial run probably lacked."""

import pytest

from advcomp.tournament.competitor.hints import hints


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        ("ModuleNotFoundError: No module named 'cv2.gapi'", 'no Python module "cv2.gapi"'),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "no network"),
        ("curl: (6) Could not resolve host: example.com", "no network"),
        ("./run.sh: line 2: $'\\r': command not found", "CR LF"),
        ("/usr/bin/env: 'python3\\r': No such file or directory", "CR LF"),
        ("cannot start ./run.py: Exec format error", "first line that names one"),
        ("./run.sh: line 3: convert: command not found", 'program or file "convert"'),
        ("/usr/bin/env: 'ruby': No such file or directory", 'program or file "ruby"'),
        ("x: error while loading shared libraries: libGL.so.1: cannot open", '"libGL.so.1"'),
        ("OSError: [Errno 30] Read-only file system: '/usr/x'", "only /code"),
        ("AssertionError: Torch not compiled with CUDA enabled", "no usable GPU"),
    ],
)
def test_a_log_that_names_what_is_missing_gives_one_hint(log: str, hint: str) -> None:
    (found,) = hints(f"Traceback\n{log}\n".encode(), "/bin/sh")
    assert hint in found


def test_the_interpreter_of_the_first_line_may_be_what_is_missing() -> None:
    (found,) = hints(b"cannot start ./run.sh: No such file or directory\n", "/usr/bin/r\x1bby")
    assert '"/usr/bin/r\\x1bby"' in found


def test_hints_are_short_harmless_and_silent_where_nothing_is_known() -> None:
    assert not list(hints(b"ValueError: 3\n", "/bin/sh"))
    (found,) = hints(b"ModuleNotFoundError: No module named '" + b"a" * 5000 + b"\x1b[2J'", None)
    assert len(found) < 400
    assert found.isprintable()
