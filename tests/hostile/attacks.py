"""Attacks that write what no honest attack would, or behave as none would.

There are four images; by default an attack's first image is the bad one and the others are
copies, so that a case also shows that one bad file costs nothing but itself.
"""

from typing import Any

from hostile.case import Case

from advcomp.rules.verdict import Verdict

IMAGES = 4
OK, PARTIAL, BAD, CRASHED = Verdict.OK, Verdict.PARTIAL, Verdict.BAD_OUTPUT, Verdict.CRASHED
TIMED_OUT, MEMORY = Verdict.TIMED_OUT, Verdict.OUT_OF_MEMORY
DISK, OUTPUT = Verdict.DISK_LIMIT, Verdict.OUTPUT_LIMIT


def harmless(name: str, program: str, **more: Any) -> Case:
    """It copies all images; whatever else it does must change nothing."""
    copying = f"copy(NAMES)\n{program}"
    return Case(name=name, program=copying, verdicts=(OK,), valid=IMAGES, **more)


def one_bad(name: str, program: str, **more: Any) -> Case:
    """Its first image, `bad`, is invalid; the others are copies."""
    bad = f"copy(NAMES[1:])\nbad = OUT / NAMES[0]\nfirst = samples(NAMES[0])\n{program}"
    return Case(name=name, program=bad, verdicts=(PARTIAL,), valid=IMAGES - 1, **more)


def all_bad(name: str, program: str, **more: Any) -> Case:
    """None of its images is valid."""
    return Case(name=name, program=program, verdicts=(BAD,), valid=0, **more)


def ends(name: str, program: str, *verdicts: Verdict, **more: Any) -> Case:
    """It ends otherwise than well."""
    return Case(name=name, program=program, verdicts=verdicts, **more)


FILES = [
    ends("one_of_four", "copy(NAMES[:1])", PARTIAL, valid=1, note=r"missing 3 of 4: img-\d{4}, "),
    all_bad("nothing", "pass", note="missing 4 of 4"),
    harmless(
        "extra_files",
        """
(OUT / "folder" / "deeper").mkdir(parents=True)
write("folder/deeper/" + NAMES[0], b"x")
write("README", b"x")
write(NAMES[0].upper() + ".jpg", b"x")
""",
        note=r"ignored 3 unexpected",
    ),
    all_bad(
        "wrong_names",
        """
(OUT / "sub").mkdir()
for name in NAMES:
    data = (IN / name).read_bytes()
    for wrong in (name.upper(), name + ".png", name[:-4], name[:-4] + ".PNG", " " + name,
                  name + " ", "sub/" + name, name.replace(".png", ".jpg")):
        write(wrong, data)
""",
    ),
    harmless(
        "names_with_escapes",
        r"""
names = (b"\x1b[2J\x1b[31mOK", b"a\nb,c\r\n", b"\xff\xfe", "=1+1|'\u202egnp".encode(), b"\x07")
for name in names:
    open(bytes(OUT) + b"/" + name, "wb").close()
""",
        note="ignored 5 unexpected",
    ),
    harmless(
        "names_that_say_much",
        "for name in NAMES: write(name.replace('.png', '.jpg'), b'')",
        note="ignored 4 unexpected",
    ),
    harmless(
        "5000_extra_files",
        'for i in range(5000): open(OUT / f"{i}.png", "w").close()',
        note=r"ignored 1000\+ unexpected",
    ),
    *[
        one_bad(f"link_to_{name}", f"bad.symlink_to({target})")
        for name, target in {
            "shadow": "'/etc/shadow'",
            "passwd": "'/etc/passwd'",
            "the_input": "IN / NAMES[0]",
            "another_output": "NAMES[1]",
            "dev_zero": "'/dev/zero'",
            "itself": "NAMES[0]",
            "nothing": "'/nonexistent'",
        }.items()
    ],
    one_bad("fifo", "os.mkfifo(bad)"),
    one_bad("folder", "bad.mkdir()"),
    one_bad("socket", "import socket\nsocket.socket(socket.AF_UNIX).bind(str(bad))"),
    one_bad(
        "device",
        """
try:
    os.mknod(bad, 0o20666, os.makedev(1, 5))
except PermissionError:
    pass
""",
    ),
    harmless(
        "hard_links_of_one_image",
        "for name in NAMES[1:]: (OUT / name).unlink(); os.link(OUT / NAMES[0], OUT / name)",
    ),
    harmless("nobody_may_read", "for p in [*OUT.iterdir(), OUT]: p.chmod(0)"),
    harmless(
        "output_folder_replaced",
        """
for call in (lambda: os.rename(OUT, "/tmp/x"), lambda: os.rmdir(OUT),
             lambda: os.rename("/tmp", OUT), lambda: os.symlink("/etc", OUT)):
    try:
        call()
    except OSError:
        pass
    else:
        print("REPLACED")
""",
    ),
    harmless("deep_folders", "os.chdir(OUT)\nfor _ in range(500): os.mkdir('d'); os.chdir('d')"),
    one_bad("sparse_200_mb", "bad.touch(); os.truncate(bad, 200 << 20)"),
]

PNGS = [
    one_bad("bomb_60000_by_60000_1_bit",
            "bad.write_bytes(raw_png(header(60000, 60000, 1, 0), bytes(1 << 20)))"),
    one_bad("bomb_13300_by_13300",
            "bad.write_bytes(raw_png(header(13300, 13300), bytes(64 << 20)))"),
    one_bad("bomb_of_4_gb_of_pixels",
            """
packer = zlib.compressobj(9)
start, block = [packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in "12"]
bad.write_bytes(header(*size()) + chunk(b"IDAT", start + block * 255) + chunk(b"IEND"))
"""),
    harmless("bombs_in_text_and_profile",
             """
packer = zlib.compressobj(9)
bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(500)) + packer.flush()
bombs = chunk(b"iCCP", b"x\\0\\0" + bomb) + chunk(b"zTXt", b"x\\0\\0" + bomb)
write(NAMES[0], png(samples(NAMES[0]), before=bombs))
"""),
    one_bad("600000_chunks",
            "bad.write_bytes(png(first, before=chunk(b'teXt') * 600_000))"),
    *[
        one_bad(name, f"data = png(first)\nbad.write_bytes({expression})")
        for name, expression in {
            "empty": "b''",
            "signature_only": "data[:8]",
            "truncated_in_pixels": "data[:-30]",
            "without_end": "data[:-12]",
            "checksum_of_pixels": "data.replace(chunk(b'IEND'), b'')[:-1] + b'x' + chunk(b'IEND')",
            "checksum_of_header": "data[:29] + bytes(4) + data[33:]",
            "checksum_of_end": "data[:-12] + chunk(b'IEND', crc=1)",
            "pixels_too_few": "raw_png(header(*size()), rows(first, *size())[:-1])",
            "pixels_too_many": "raw_png(header(*size()), rows(first, *size()) + b'0')",
            "unknown_filter": "raw_png(header(*size()), rows(first, *size(), filter_type=5))",
            "no_pixels": "header(*size()) + chunk(b'IEND')",
            "length_beyond_the_file": "data[:33] + b'\\xff\\xff\\xff\\xff' + data[37:]",
            "critical_chunk": "png(first, before=chunk(b'EVIL', b'x'))",
            "two_headers": "png(first, before=header(*size())[8:])",
            "adler": "header(*size()) + chunk(b'IDAT', zlib.compress(rows(first, *size()))[:-4]"
            " + bytes(4)) + chunk(b'IEND')",
            "spare_bytes_before": "b' ' + data",
        }.items()
    ],
    all_bad(
        "other_formats",
        """
from PIL import Image
image = Image.open(IN / NAMES[0])
for name, kind in zip(NAMES, ("JPEG", "GIF", "TIFF", "WEBP")):
    image.save(OUT / name, kind)
""",
    ),
    all_bad(
        "more_formats",
        """
from PIL import Image
image = Image.open(IN / NAMES[0])
for name, kind in zip(NAMES, ("EPS", "BMP", "PPM")):
    image.save(OUT / name, kind)
image.convert("CMYK").save(OUT / NAMES[3], "JPEG")
""",
    ),
    all_bad(
        "other_depths_and_colours",
        """
width, height = size()
kinds = ((16, 2, 6), (8, 3, 1), (8, 0, 1), (8, 6, 4))
for name, (depth, colour, bytes_each) in zip(NAMES, kinds):
    lines = rows(bytes([1]) * (width * height * bytes_each), width, height)
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    write(name, header(width, height, depth, colour) + palette + raw_png(b"", lines))
""",
    ),
    all_bad(
        "more_depths_and_colours",
        """
width, height = size()
kinds = ((8, 4, 2), (1, 0, 1 / 8), (16, 6, 8), (2, 2, 3))
for name, (depth, colour, bytes_each) in zip(NAMES, kinds):
    lines = rows(bytes(int(width * height * bytes_each)), width, height)
    write(name, raw_png(header(width, height, depth, colour), lines))
""",
    ),
    all_bad(
        "wrong_sizes",
        """
width, height = size()
sizes = ((width + 1, height), (width, height - 1), (height, width), (2 * width, 2 * height))
for name, (w, h) in zip(NAMES, sizes):
    write(name, raw_png(header(w, h), rows(bytes(3 * w * h), w, h)))
""",
    ),
    harmless(
        "all_that_may_stand_in_a_png",
        """
content = [samples(name) for name in NAMES]
write(NAMES[0], interlaced(content[0]))
colours = chunk(b"gAMA", (1).to_bytes(4)) + chunk(b"sRGB", b"\\3") + chunk(b"cHRM", bytes(32))
colours += chunk(b"tRNS", content[1][:1] * 6) + chunk(b"bKGD", bytes(6))
write(NAMES[1], png(content[1], before=colours))
texts = chunk(b"iCCP", b"x\\0\\0junk") + chunk(b"eXIf", b"MM\\0*junk") + chunk(b"tEXt", b"a\\0b")
after = chunk(b"tIME", b"bad") + chunk(b"zTXt", b"bad")
write(NAMES[2], png(content[2], before=texts, after=after))
control = chunk(b"acTL", struct.pack(">II", 2, 0))
control += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *size(), 0, 0, 1, 1, 0, 0))
second = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, *size(), 0, 0, 1, 1, 0, 0))
second += chunk(b"fdAT", b"\\0\\0\\0\\2" + zlib.compress(rows(bytes(len(content[3])), *size())))
other = png(bytes(len(content[3])))
write(NAMES[3], png(content[3], before=control, after=second, end=other * 3))
""",
    ),
]  # fmt: skip

TARGETED = [
    Case(
        name="rewrites_its_targets",
        kind="targeted_attack",
        program="""
lines = (IN / "target_class.csv").read_text()
assert sorted(line.split(",")[0] for line in lines.splitlines()) == NAMES
for place in (IN, OUT):
    try:
        (place / "target_class.csv").write_text("".join(f"{name},3\\n" for name in NAMES))
    except OSError:
        pass
copy(NAMES)
""",
        verdicts=(OK,),
        valid=IMAGES,
    ),
]

ENDINGS = [
    ends("sleeps_for_ever", "copy(NAMES)\nimport time\ntime.sleep(1e6)", TIMED_OUT, valid=4,
         signal=9),
    ends(
        "ignores_every_signal",
        """
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True:
    time.sleep(1)
""",
        TIMED_OUT,
        signal=9,
    ),
    ends("stops_itself", "copy(NAMES)\nimport signal\nos.kill(os.getpid(), signal.SIGSTOP)",
         TIMED_OUT, valid=4),
    ends(
        "spins_in_48_threads",
        """
import threading
def spin():
    while True:
        pass
for _ in range(48):
    threading.Thread(target=spin).start()
""",
        TIMED_OUT,
    ),
    ends(
        "fork_bomb",
        """
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
        TIMED_OUT, MEMORY,
    ),
    ends(
        "memory_in_a_fork_bomb",
        """
hoard = []
while True:
    try:
        os.fork()
    except OSError:
        pass
    hoard.append(bytearray(b"x") * (4 << 20))
""",
        MEMORY,
    ),
    ends("memory_of_the_heap",
         "copy(NAMES)\nx = [bytearray(b'x') * (16 << 20) for _ in range(99)]",
         MEMORY, valid=4, signal=9),
    ends(
        "memory_of_one_that_will_not_be_killed",
        """
copy(NAMES)
for points in ("-1000", "0"):
    try:
        Path("/proc/self/oom_score_adj").write_text(points)
        break
    except OSError:
        pass
x = [bytearray(b"x") * (16 << 20) for _ in range(99)]
""",
        MEMORY, valid=4,
    ),
    ends(
        "memory_in_a_nameless_file",
        """
copy(NAMES)
file = os.memfd_create("x")
while True:
    os.write(file, bytes(1 << 20))
""",
        MEMORY, valid=4,
    ),
    ends(
        "memory_in_a_child",
        """
copy(NAMES)
if os.fork() == 0:
    x = [bytearray(b"x") * (16 << 20) for _ in range(99)]
os.wait()
""",
        OK, MEMORY, valid=4, note="memory",
    ),
    ends(
        "memory_in_a_child_and_nothing_written",
        """
if os.fork() == 0:
    x = [bytearray(b"x") * (16 << 20) for _ in range(99)]
os.wait()
""",
        MEMORY, valid=0,
    ),
    ends(
        "memory_in_udp_sockets",
        """
copy(NAMES)
import socket
held = []
for _ in range(100):
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    receiver.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(receiver.getsockname())
        for _ in range(120):
            sender.send(bytes(60_000))
    held.append(receiver)
try:
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
except OSError:
    lines = []
queued = sum(int(line.split()[4][9:], 16) for line in lines)
if queued > 64 << 20:
    print("CHANGED what sockets may queue:", queued)
""",
        OK, MEMORY, TIMED_OUT, valid=4,
    ),
    ends(
        "memory_in_netlink_sockets",
        """
copy(NAMES)
import socket
request = struct.pack("=IHHIIBBHiII", 32, 18, 1, 1, 0, 0, 0, 0, 1, 0, 0)
held = []
while True:
    held.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    for _ in range(2500):
        held[-1].send(request)
""",
        MEMORY, TIMED_OUT, CRASHED, valid=4,
    ),
    harmless(
        "takes_what_the_machine_shares",
        """
import ctypes, pty
libc = ctypes.CDLL(None, use_errno=True)
def most(take, at_most):
    held = []
    try:
        while len(held) < at_most:
            held.append(take())
    except OSError:
        pass
    return held
terminals = most(pty.openpty, 400)
for fd in (fd for pair in terminals for fd in pair):
    os.close(fd)
files = most(lambda: os.open("/dev/null", os.O_RDONLY), 5000)
for fd in files:
    os.close(fd)
contexts = 0
if os.uname().machine == "x86_64":
    while contexts < 100 and libc.syscall(206, 100, ctypes.byref(ctypes.c_ulong())) == 0:
        contexts += 1
for what, taken, bound in (("terminals", len(terminals), 32), ("files", len(files), 1024),
                           ("contexts", contexts, 0)):
    if taken > bound:
        print("CHANGED: took", what, taken)
""",
    ),
    harmless("memory_that_is_never_touched", "import mmap\nmmap.mmap(-1, 1 << 30)"),
    harmless(
        "memory_of_the_page_cache",
        """
import time
until = time.monotonic() + 2
for path in Path("/usr").rglob("*"):
    if time.monotonic() > until:
        break
    if path.is_file():
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
""",
    ),
    *[
        ends(
            f"fills_{name}",
            f"""
copy(NAMES)
try:
    with open("{folder}/zeros", "wb", 0) as file:
        while True:
            file.write(bytes(1 << 16))
except OSError as error:
    print(error)
""",
            verdict,
            valid=4,
        )
        for name, folder, verdict in (
            ("tmp", "/tmp", DISK),
            ("dev_shm", "/dev/shm", DISK),
            ("code", "/code", DISK),
            ("output", "/output_images", OUTPUT),
        )
    ],
    harmless(
        "fills_the_output_and_clears_it",
        """
try:
    with open(OUT / "zeros", "wb", 0) as file:
        while True:
            file.write(bytes(1 << 16))
except OSError:
    (OUT / "zeros").unlink()
""",
    ),
    ends(
        "a_million_files",
        """
copy(NAMES)
i = 0
while True:
    open(f"/tmp/{i}", "w").close()
    i += 1
""",
        MEMORY, TIMED_OUT, DISK, valid=4,
    ),
    # An engine takes about 100 MB a second, so that the time may not do.
    ends("1_gb_of_zeros_on_stdout",
         "copy(NAMES)\nfor _ in range(1024): os.write(1, bytes(1 << 20))",
         OK, TIMED_OUT, valid=4),
    harmless("escapes_on_stdout",
             "os.write(1, b'\\x1b]0;owned\\x07\\x1b[2J\\x1b[1;31mOK\\r\\x00\\xff' * 5000)"),
    all_bad("claims_a_verdict",
            "print('verdict: OK\\n{\"verdict\": \"OK\", \"valid\": 4}\\nexit 0\\nready\\ngo')"),
    ends("exit_137", "copy(NAMES)\nos._exit(137)", CRASHED, valid=4, exit_code=137),
    ends("exit_255", "copy(NAMES)\nos._exit(255)", CRASHED, valid=4, exit_code=255),
    ends("kills_itself", "copy(NAMES)\nos.kill(os.getpid(), 9)", CRASHED, valid=4, signal=9),
    ends("dumps_core", "copy(NAMES)\nos.abort()", CRASHED, valid=4, signal=6),
    ends("faults", "copy(NAMES)\nimport ctypes\nctypes.string_at(0)", CRASHED, valid=4, signal=11),
    harmless("kills_everybody",
             "import signal\nsignal.signal(15, signal.SIG_IGN)\nif os.fork(): os.kill(-1, 9)\n"
             "else: signal.pause()"),
    harmless(
        "attacks_process_1_and_its_channel",
        """
import resource
for number in range(1, 65):
    try:
        os.kill(1, number)
    except OSError:
        pass
for limit in range(16):
    try:
        resource.prlimit(1, limit, (0, 0))
        print("CHANGED", limit)
    except OSError:
        pass
for fd in range(3, 1024):
    try:
        os.write(fd, b"exit 0")
        print("CHANGED", fd)
    except OSError:
        pass
""",
    ),
    harmless(
        "daemon_outlives_it",
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(3)
        for name in NAMES:
            write(name, b"junk")
        while True:
            os.write(1, b"still here")
    os._exit(0)
""",
    ),
    harmless(
        "changes_clock_limits_and_more",
        """
import resource, time
def clock(): time.clock_settime(time.CLOCK_REALTIME, 0)
def limits(): resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
def niceness(): os.nice(-10)
def oom_of_the_box(): open("/proc/1/oom_score_adj", "w").write("1000")
def sysctl(): open("/proc/sys/kernel/core_pattern", "w").write("|/bin/sh")
def hostname(): import socket; socket.sethostname("x")
def group(): open("/sys/fs/cgroup/cgroup.procs", "w").write("1")
def root(): os.setuid(0)
for change in (clock, limits, niceness, oom_of_the_box, sysctl, hostname, group, root):
    try:
        change()
        print("CHANGED", change.__name__)
    except (OSError, ValueError):
        pass
os.sched_setaffinity(0, {0})
os.nice(19)
""",
    ),
    harmless(
        "writes_wherever_it_can",
        """
import subprocess
for place in ("/", "/etc", "/usr", "/usr/bin", "/proc", "/dev", "/home", "/root", "/run", "/var",
              "/input_images", sys.prefix, sys.base_prefix, "/sys", "/opt", "/mnt", "/boot"):
    try:
        open(f"{place}/left-behind", "w").close()
        print("CHANGED", place)
    except OSError:
        pass
for name in NAMES:
    for change in (os.unlink, lambda p: os.truncate(p, 0), lambda p: os.chmod(p, 0o777),
                   lambda p: os.utime(p), lambda p: os.rename(p, "/tmp/x")):
        try:
            change(IN / name)
            print("CHANGED", change, name)
        except OSError:
            pass
""",
    ),
]  # fmt: skip

STARTS = [
    ends("no_interpreter", "#!/nonexistent/shell\n", CRASHED, exit_code=127),
    ends("nothing_to_execute", "#!\n", CRASHED),
]
"""What cannot start; entry points without `#!` are made by the test itself."""

SPIES = [
    harmless(
        "reads_proc",
        """
for pid in sorted(os.listdir("/proc")):
    if not (pid.isdigit() or pid == "self"):
        continue
    for file in ("environ", "cmdline", "cgroup", "maps", "status", "comm"):
        try:
            print(pid, file, open(f"/proc/{pid}/{file}", "rb").read())
        except OSError as error:
            print(pid, file, error.strerror)
    for folder in ("fd", "cwd", "root", "exe", "task"):
        try:
            place = f"/proc/{pid}/{folder}"
            links = os.listdir(place) if folder in ("fd", "task", "root") else [""]
            print(pid, folder, [(n, os.path.realpath(f"{place}/{n}")) for n in links][:40])
        except OSError as error:
            print(pid, folder, error.strerror)
for file in ("keys", "locks", "net/unix", "net/tcp", "sysvipc/shm", "swaps", "mounts"):
    try:
        print(file, open(f"/proc/{file}").read())
    except OSError as error:
        print(file, error.strerror)
print(dict(os.environ), os.getcwd(), os.uname().nodename, sys.argv)
""",
    ),
    harmless(
        "searches_names",
        """
import itertools
print("SEARCHED")
for root, folders, files in os.walk("/"):
    if root == "/":
        folders[:] = [f for f in folders if f not in ("usr", "proc", "sys")]
    folders[:] = [f for f in folders if os.path.join(root, f) not in (sys.prefix, sys.base_prefix)]
    for name in itertools.chain(folders, files):
        print(os.path.join(root, name))
""",
    ),
]
