"""What a defense could tell without looking at pixels, and what survives from run to run: nothing.

Probes answer with what they see of an image beside its pixels. The key, and so every opaque name
and offset, is fixed.
"""

from pathlib import Path

import numpy as np
import pytest
from hostile.case import Case
from hostile.conducted import Ran, conduct
from numpy.typing import NDArray
from support.contest import Contest

from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.verdict import Verdict

pytestmark = pytest.mark.slow

IMAGES, LEVELS = 200, [4, 32]
BOUND = 4.5 * (0.5 / IMAGES) ** 0.5
"""4.5 standard deviations of the difference between two means of IMAGES fair coins."""

ORDERS = {
    "rank_of_the_name": "sorted(NAMES)",
    "place_in_the_listing": "[name for name in os.listdir(IN) if name in NAMES]",
    "rank_of_the_inode": "sorted(NAMES, key=lambda name: (IN / name).stat().st_ino)",
    "rank_of_the_change": "sorted(NAMES, key=lambda name: (IN / name).stat().st_ctime_ns)",
}
"""Name -> an order of the images. One probe answers with a bit for each: 1 in the second half."""

ALIKE = """
def seen(name):
    place = IN / name
    status = place.stat()  # first: gVisor notes in its own memory when a file was read
    data = place.read_bytes()
    marks = [getattr(status, key) for key in dir(status) if key.startswith("st_")
             and key not in ("st_ino", "st_ctime", "st_ctime_ns")]
    return repr([marks, os.listxattr(place), os.path.islink(place), len(name), data[:48],
                 data[-12:]])
"""
STATE = """
import ctypes, errno, fcntl, socket
libc = ctypes.CDLL(None)
MARK = "left-by-an-earlier-run"
found = []
for place in ("/tmp", "/code", "/dev/shm", "/output_data", "/input_images", "/run", "/dev/mqueue"):
    path = Path(place) / MARK
    found += [place] if path.exists() else []
    try:
        path.touch()
    except OSError:
        pass
talk = socket.socket(socket.AF_UNIX)
try:
    talk.bind("\\0" + MARK)
    talk.listen()
except OSError as error:
    if error.errno != errno.EADDRINUSE:
        raise
    found.append("socket")
for call, more in ((libc.shmget, (4096,)), (libc.semget, (1,)), (libc.msgget, ())):
    if call(0x5EED, *more, 0) != -1:
        found.append(call.__name__)
    call(0x5EED, *more, 0o1666)
try:
    fcntl.flock(os.open("/usr/bin/env", os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    found.append("lock")
except OSError:
    pass  # there are no locks to leave
if libc.syscall(250 if os.uname().machine == "x86_64" else 219, 10, -3, b"user",
                MARK.encode(), 0) != -1:
    found.append("key")
libc.syscall(248 if os.uname().machine == "x86_64" else 217, b"user", MARK.encode(), b"x", 1, -3)
if os.fork() == 0:
    os.setsid()
    import time
    time.sleep(1000)
print("FOUND", found)
OUT.write_text(answer(int(bool(found))))
"""


def probe(name: str, program: str) -> Case:
    return Case(name=name, program=program, kind="defense", verdicts=(Verdict.OK,))


HALVES = f"""
labels = dict.fromkeys(NAMES, 0)
for bit, order in enumerate([{", ".join(ORDERS.values())}]):
    assert sorted(order) == NAMES
    for name in order[len(order) // 2 :]:
        labels[name] += 1 << bit
OUT.write_text("".join(f"{{name}},{{label}}\\n" for name, label in labels.items()))
"""


PROBES = [
    probe("orders", HALVES),
    probe(
        "all_that_is_alike",
        f"{ALIKE}\nfor name in NAMES:\n"
        "    print(f'{name},{zlib.crc32(seen(name).encode()) % 30000}', file=OUT.open('a'))\n"
        "print(seen(NAMES[0]))",
    ),
    probe("name", "OUT.write_text(''.join(f'{n},{int(n[:4], 16) % 30000}\\n' for n in NAMES))"),
    probe("state", STATE),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Ran:
    folder: Path = tmp_path_factory.mktemp("contest")
    draw = np.random.default_rng(0)
    images = (
        LabelledImage(
            image_id=f"img-{k:04d}",
            image=draw.integers(0, 256, (4, 4, 3), np.uint8),
            label=k % 10,
            target_class=None,
        )
        for k in range(IMAGES)
    )
    write_dataset(folder / "data", images)
    contest = Contest(folder)
    (folder / "key").write_text("5e" * 32)
    white = "for n in NAMES: write(n, png(b'\\xff' * len(samples(n))))"
    attacks = [
        Case(name="copies", program="copy(NAMES)", verdicts=(Verdict.OK,)),
        Case(name="white", program=white, verdicts=(Verdict.OK,)),
    ]
    file = contest.file(
        [case.write(contest) for case in attacks],
        [case.write(contest) for case in PROBES],
        max_epsilons=LEVELS,
    )
    return conduct(contest, file, backend, jobs=1, key=folder / "key")


def answers(ran: Ran, name: str) -> NDArray[np.int16]:
    """What a probe saw: a row for the clean images, then one for each attack and budget."""
    results = ran.answers()
    row = [entry.name for entry in results.defenses].index(name)
    adversarial = [
        results.predictions[row, attack, results.pair_max_epsilon == level]
        for attack in range(len(results.attacks))
        for level in LEVELS
    ]
    table = np.stack([results.clean_predictions[row], *adversarial])
    assert table.shape == (5, IMAGES)
    assert (table >= 0).all()
    return table


def halves(ran: Ran, order: str) -> NDArray[np.int16]:
    """Of each image in each run: whether it is of the second half in this order."""
    return answers(ran, "orders") >> list(ORDERS).index(order) & 1


@pytest.mark.parametrize("name", ORDERS)
def test_no_order_tells_clean_from_adversarial_or_one_attack_from_another(
    ran: Ran, name: str
) -> None:
    means = halves(ran, name).mean(axis=1)
    assert means.max() - means.min() < BOUND


@pytest.mark.parametrize("name", ORDERS)
def test_no_order_tells_which_source_image_it_is(ran: Ran, name: str) -> None:
    """An image's places in its five runs have nothing to do with each other or with its index."""
    table = halves(ran, name)
    assert 0.4 < table.mean() < 0.6
    assert abs(table[:, : IMAGES // 2].mean() - table[:, IMAGES // 2 :].mean()) < BOUND
    agreeing = [(table[i] == table[j]).mean() for i in range(5) for j in range(i)]
    assert max(abs(share - 0.5) for share in agreeing) < BOUND


def test_all_else_is_alike_for_all_images(ran: Ran) -> None:
    """Size, times, owner, mode, links, attributes, length of the name, head and tail."""
    assert len(np.unique(answers(ran, "all_that_is_alike"))) == 1


def test_an_image_has_another_name_in_every_run(ran: Ran) -> None:
    table = answers(ran, "name")
    alike = [(table[i] == table[j]).mean() for i in range(5) for j in range(i)]
    assert max(alike) < 0.05


def test_nothing_survives_a_run(ran: Ran) -> None:
    """Files, sockets, shared memory, semaphores, queues, locks, keys and daemons of five runs."""
    assert set(answers(ran, "state").ravel().tolist()) == {0}
    logs = [path.read_bytes() for path in ran.run.glob("jobs/*/log")]
    assert sum(b"FOUND []" in log for log in logs) == 5
