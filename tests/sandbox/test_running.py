"""Closing a sandbox reaches all that runs, and nothing starts after it."""

import pytest

from advcomp.errors import SandboxError
from advcomp.sandbox.box.running import Running


def test_closing_kills_what_has_not_ended_and_takes_nothing_more() -> None:
    killed: list[str] = []
    running: Running[str] = Running(killed.append)
    with running.registered("ended"):
        assert len(running) == 1
    with running.registered("going on"):
        running.close()
    assert killed == ["going on"]
    with pytest.raises(SandboxError, match="the sandbox is closed"), running.registered("late"):
        raise AssertionError("it must not run")
    assert (killed, len(running)) == (["going on"], 0)


@pytest.mark.parametrize("failure", [SandboxError("its channel broke"), OSError("no process")])
def test_what_fails_by_being_closed_says_so(failure: Exception) -> None:
    running: Running[str] = Running(lambda _: None)
    with pytest.raises(type(failure), match=str(failure)), running.registered("box"):
        raise failure

    def fail_when_closed() -> None:
        with running.registered("box"):
            running.close()
            raise failure

    with pytest.raises(SandboxError, match="closed during the run"):
        fail_when_closed()
