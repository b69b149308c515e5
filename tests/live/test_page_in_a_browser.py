"""A run's page in a real browser: it follows what happens, whatever happens to whom."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Require
from support.browser import Browser
from support.command import advcomp
from support.contest import CONSTANT, COPY, SMALL, Contest, write_greys
from support.run_folder import RunFolder

from advcomp.rules.verdict import Verdict
from advcomp.tournament.config import LogPolicy

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE, DESK = 390, 1440
TOKEN = "for-the-browser"
CUT_OFF = """[...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    return (box.right > innerWidth + 1 || box.left < -1)
        && !e.closest('.scroll, .contents, pre, .skip, .unseen');
}).map(e => e.outerHTML.slice(0, 80))"""
BOARDS = "document.getElementById('boards').textContent"


@contextmanager
def served(run: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page's address, and the process that serves it."""
    command = [sys.executable, "-m", "advcomp.cli", "watch", str(run), "--serve"]
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        env={**os.environ, "ADVCOMP_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[0], server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def says(selector: str, text: str) -> str:
    return f"document.querySelector({selector!r})?.textContent.includes({text!r})"


def opened(browser: Browser, address: str) -> None:
    """The page, marked: a reload would lose the mark."""
    browser.open(address, DESK)
    browser.wait_for(says("#link", "live"))
    browser.evaluate("window.mark = 1")


def test_the_page_follows_a_run_its_death_and_its_resumption_without_a_reload(
    browser: Browser, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run", show=LogPolicy.TAIL)
    hostile = b"<script>document.title = 'owned'</script><img src=x onerror=alert(1)>\n"
    with served(folder.run) as (address, server):
        opened(browser, address)
        assert browser.evaluate("[location.search, document.cookie]") == ["", ""]
        browser.wait_for(says("#phase", "Stopped"))
        with folder.at_work(("noop-eps8-0", 30.0)):
            browser.wait_for(says("#running", "noop-eps8-0"))
            seconds = "Number.parseInt(document.querySelector('[data-seconds]').textContent)"
            began = browser.evaluate(seconds)
            assert began >= 30
            browser.wait_for(f"{seconds} > {began}")  # it counts by itself
            folder.attack("noop", 8)
            folder.attack("fgsm", 8, verdict=Verdict.CRASHED, exit_code=7, log=hostile)
            browser.wait_for(says("#failed", "exit code 7"))
            assert browser.evaluate(says("#boards", "none yet"))
            assert browser.evaluate(says(".log", "<script>"))
            browser.evaluate("document.querySelector('#failed details').open = true")
            folder.attack("noop", 32)
            browser.wait_for(says("#stages", "3 of 4"))
            assert browser.evaluate("document.querySelector('#failed details').open")
        browser.wait_for(says("#phase", "Stopped"))  # killed, say
        with folder.at_work(("fgsm-eps32-0", 0.0)):
            browser.wait_for(says("#running", "fgsm-eps32-0"))
            folder.play()
        browser.wait_for(says("#phase", "Finished"))
        assert browser.evaluate("window.mark") == 1
        assert not re.search("provisional|none yet", browser.evaluate(BOARDS))
        server.kill()
        browser.wait_for(says("#link", "gone"))
        errors, asked = browser.errors, browser.requests
        port = re.search(r":(\d+)/", address)
        assert port is not None
        own = f"http://127.0.0.1:{port[1]}/"
        assert [url for url in asked if not url.startswith((own, "data:"))] == []
        assert all("ERR_" in error for error in errors), errors  # of the server's death alone
    last = browser.evaluate(BOARDS)
    out = tmp_path / "page.html"
    assert advcomp("watch", folder.run, "--out", out).exit_code == 0
    for width in (PHONE, DESK):
        browser.open(out, width, dark=width == PHONE)
        assert browser.evaluate(BOARDS) == last
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.evaluate(CUT_OFF) == []
        assert browser.evaluate(says("#link", "a file"))
        assert browser.requests == [out.as_uri()]
        assert browser.errors == []


@pytest.mark.long
def test_the_page_follows_a_real_run_that_is_killed_and_goes_on(
    browser: Browser, require: Require, tmp_path: Path
) -> None:
    """Its referee by SIGKILL; then the server, which comes back at the same port."""
    require("bubblewrap")
    write_greys(tmp_path / "data", 6)
    contest = Contest(tmp_path)
    gate = "until [ -e /nowhere ]; do sleep 0.1; done"
    slow = contest.entry("slow", f"{gate}; {COPY}")
    file = contest.file(
        [contest.entry("copy", COPY), slow],
        [contest.entry("three", CONSTANT, "defense")],
        max_epsilons=[8],
        more=SMALL,
    )
    run = tmp_path / "run"
    command = [sys.executable, "-m", "advcomp.cli", "run", str(file), "--out", str(run)]
    command += ["--jobs", "2"]
    referee = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with _listening(run, referee) as (address, server):
        opened(browser, address)
        browser.wait_for(says("#running", "slow-eps8-0"))
        browser.wait_for(says("#stages", "1 of 2"))
        referee.send_signal(signal.SIGKILL)
        referee.wait()
        browser.wait_for(says("#phase", "Stopped"))
        (contest.folder / "entries_of_the_test/slow/run.sh").write_text(f"#!/bin/sh\n{COPY}\n")
        server.kill()
        browser.wait_for(says("#link", "gone"))
        port = re.search(r":(\d+)/", address)
        assert port is not None
        referee = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with served(run, int(port[1])):
            browser.wait_for("document.getElementById('link').className === 'signal on'")
            assert referee.wait() == 0
            browser.wait_for(says("#phase", "Finished"))
            assert browser.evaluate("window.mark") == 1
            assert "three" in browser.evaluate(BOARDS)
    browser.open("about:blank", DESK)


@contextmanager
def _listening(
    run: Path, referee: subprocess.Popen[bytes]
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Served as soon as the referee has begun; it is ended in any case."""
    try:
        while not (run / "lock").exists():
            assert referee.poll() is None
        with served(run) as (address, server):
            yield address, server
    finally:
        referee.kill()
        referee.wait()
