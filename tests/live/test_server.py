"""Who is shown a run's page, and that nothing of a run becomes markup or a script in it."""

import asyncio
import json
import re
import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.command import advcomp
from support.run_folder import RunFolder

from advcomp.errors import InvalidConfig
from advcomp.live.access import Access, access_to
from advcomp.live.following import RunWatch
from advcomp.live.live_page import page
from advcomp.live.server import EventFeed, address_of, app_of, listening
from advcomp.rules.verdict import Verdict
from advcomp.tournament.config import LogPolicy

PAGES = ("/", "/events", "/changes", "/state.json", "/page.html")
TOKEN = "a-token_of+ours"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run", show=LogPolicy.TAIL)


def client(folder: RunFolder, access: Access, host: str = "127.0.0.1:8017") -> TestClient:
    return TestClient(app_of(RunWatch(folder.run), access), base_url=f"http://{host}")


@pytest.mark.parametrize(
    ("address", "host", "admitted"),
    [
        ("127.0.0.1", "127.0.0.1:8017", True),
        ("127.0.0.1", "localhost:8017", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:8017", True),
        ("127.0.0.1", "evil.example:8017", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "10.1.2.3", False),
        ("127.0.0.1", "", False),
        ("10.1.2.3", "10.1.2.3:8017", True),
        ("10.1.2.3", "10.1.2.4:8017", False),
        ("box.lan", "box.lan:8017", True),
        ("box.lan", "evil.example", False),
        ("0.0.0.0", "10.1.2.3:8017", True),
        ("0.0.0.0", f"{socket.gethostname()}:8017", True),
        ("0.0.0.0", "evil.example", False),
        ("::", "[2001:db8::1]:8017", True),
    ],
)
def test_a_request_must_name_this_server(address: str, host: str, admitted: bool) -> None:
    """Else a page elsewhere whose name leads to this machine could read ours (DNS rebinding)."""
    assert Access(address=address).admits_host(host) is admitted


def test_another_host_is_shown_nothing(folder: RunFolder) -> None:
    for access in (Access(), Access(token=TOKEN)):
        asked = client(folder, access, "evil.example")
        for path in PAGES:
            answer = asked.get(path, params={"token": TOKEN})
            assert (answer.status_code, "contest" in answer.text) == (403, False)
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("given", [None, "", "a-token", TOKEN + "x", "ä"])
def test_without_the_token_nothing_is_shown(folder: RunFolder, given: str | None) -> None:
    asked = client(folder, Access(token=TOKEN))
    by_query = {} if given is None else {"token": given}
    by_header = {} if given is None else {b"authorization": f"Bearer {given}".encode()}
    for path in PAGES:
        for answer in (asked.get(path, params=by_query), asked.get(path, headers=by_header)):
            assert (answer.status_code, "contest" in answer.text) == (401, False)
            assert "set-cookie" not in answer.headers


def test_the_token_opens_the_page_by_header_by_address_and_then_by_cookie(
    folder: RunFolder,
) -> None:
    access = Access(token=TOKEN)
    asked = client(folder, access)
    by_header = asked.get("/state.json", headers={"authorization": f"Bearer {TOKEN}"})
    assert by_header.status_code == 200
    asked.cookies.clear()
    opened = asked.get("/", params={"token": TOKEN})
    assert opened.status_code == 200
    cookie = opened.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in cookie.split(";")}
    assert TOKEN not in cookie + opened.text
    assert asked.get("/state.json").json()["tournament"] == "contest"
    assert asked.get("/state.json", params={"token": "wrong"}).status_code == 401
    for token, status in ((TOKEN, 200), (TOKEN + "x", 401)):  # the next server's
        other = client(folder, Access(token=token))
        other.headers["cookie"] = cookie.partition(";")[0]
        assert other.get("/state.json").status_code == status


def test_nothing_is_written_and_nothing_else_is_there(folder: RunFolder) -> None:
    asked = client(folder, Access())
    assert {asked.request(verb, "/").status_code for verb in ("POST", "PUT", "DELETE")} == {405}
    for path in ("/key", "/run.json", "/..%2frun.json", "/static/../key"):
        assert asked.get(path).status_code == 404


def test_the_page_forbids_itself_all_that_is_not_its_own(folder: RunFolder) -> None:
    answer = client(folder, Access()).get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    as_file = client(folder, Access()).get("/page.html").text
    assert "connect-src" not in as_file
    assert 'data-events=""' in as_file


def test_nothing_that_an_entry_wrote_can_end_the_state(folder: RunFolder) -> None:
    log = b"</script><script>document.title = 'owned'</script><!-- & \xe2\x80\xa8\n"
    folder.attack("fgsm", 8, verdict=Verdict.CRASHED, log=log)
    snapshot = RunWatch(folder.run).look()
    html = page(snapshot)
    assert "</script><script>document" not in html
    assert html.count("<script") == html.count("</script>") == 2
    (state,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert json.loads(state) == snapshot.as_json() | json.loads(json.dumps(snapshot.as_json()))


def told(folder: RunFolder, *, whole: bool) -> list[str]:
    """What a feed tells at first, and when one job has ended and is looked at twice."""

    async def lines() -> list[str]:
        watch = RunWatch(folder.run)
        feed = EventFeed(watch)
        events = feed.lines(whole=whole)
        first = [await anext(events), await anext(events)]
        folder.attack("noop", 8)
        await feed._take(watch.look())
        await feed._take(watch.look())
        return [*first, await anext(events)]

    return asyncio.run(lines())


def test_a_change_is_told_to_everybody_once(folder: RunFolder) -> None:
    retry, before, after = told(folder, whole=True)
    assert retry.startswith("retry: ")
    states = [json.loads(line.partition("data: ")[2]) for line in (before, after)]
    assert [state["stages"][0]["done"] for state in states] == [0, 1]
    assert before.startswith("event: state\n")
    assert before.endswith("\n\n")
    assert before.count("\n") == 3


def test_the_page_is_told_only_what_has_changed(folder: RunFolder) -> None:
    _, before, after = told(folder, whole=False)
    assert before.startswith("event: state\n")
    assert after.startswith("event: change\n")
    change = json.loads(after.partition("data: ")[2])
    assert {"stages", "waiting"} <= change.keys()
    assert not {"tournament", "phase", "remarks"} & change.keys()


@pytest.mark.parametrize("token", ["", " ", "ä", "a\nb"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(InvalidConfig, match="--token: expected"):
        access_to("0.0.0.0", token)


def test_others_see_the_page_by_a_token_alone(folder: RunFolder) -> None:
    refused = advcomp("watch", folder.run, "--serve", "--bind", "0.0.0.0")
    assert refused.exit_code == 1
    assert "--bind 0.0.0.0: expected a token with it" in refused.output
    assert access_to(None, None).address == "127.0.0.1"


@pytest.mark.parametrize(
    "options",
    [("--serve", "--json"), ("--bind", "0.0.0.0"), ("--port", "1"), ("--token", "t", "--json")],
)
def test_options_that_say_two_things_are_refused(
    folder: RunFolder, options: tuple[str, ...]
) -> None:
    assert advcomp("watch", folder.run, *options).exit_code == 2


def test_a_port_in_use_is_named(folder: RunFolder) -> None:
    with listening(Access(), 0) as place:
        place.listen()
        port = place.getsockname()[1]
        assert address_of(Access(), place) == f"http://127.0.0.1:{port}/"
        refused = advcomp("watch", folder.run, "--serve", "--port", str(port))
    assert refused.exit_code == 1
    assert f"--port {port}: expected one that is free at 127.0.0.1" in refused.output


def test_the_page_is_written_as_a_file_and_events_as_lines(folder: RunFolder) -> None:
    folder.play()
    out = folder.run.parent / "pages" / "page.html"
    assert advcomp("watch", folder.run, "--out", out).exit_code == 0
    assert '"phase": "finished"' in out.read_text()
    (line,) = advcomp("watch", folder.run, "--json").output.splitlines()
    assert json.loads(line)["phase"] == "finished"
    shown = advcomp("status", folder.run, "--watch").output
    assert "contest: finished" in shown
    assert "attack jobs 4 of 4, defense jobs 10 of 10" in shown
    assert shown == advcomp("watch", folder.run).output


@pytest.mark.parametrize("address", ["192.0.2.1", "name with spaces"])
def test_an_address_that_is_not_this_machines_is_named(address: str) -> None:
    with pytest.raises(InvalidConfig, match=f"^--bind {address}: expected an address of this"):
        listening(access_to(address, "token"), 0)
