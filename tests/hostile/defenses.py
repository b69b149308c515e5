"""Defenses that write what no honest defense would."""

from typing import Any

from hostile.case import Case

from advcomp.rules.verdict import Verdict

OK, PARTIAL, BAD, CRASHED = Verdict.OK, Verdict.PARTIAL, Verdict.BAD_OUTPUT, Verdict.CRASHED
OUTPUT, TIMED_OUT = Verdict.OUTPUT_LIMIT, Verdict.TIMED_OUT


def fine(name: str, program: str, **more: Any) -> Case:
    """Every label counts."""
    return Case(name=name, program=program, kind="defense", verdicts=(OK,), missing=0, **more)


def useless(name: str, program: str, *verdicts: Verdict, **more: Any) -> Case:
    """No label counts."""
    ends = verdicts or (BAD,)
    return Case(name=name, program=program, kind="defense", verdicts=ends, valid=0, **more)


REFUSED_LABELS = (
    *("", " ", "NaN", "inf", "1.0", "1e2", "1_0", "+5", "-1", "0x10", "1" + "0" * 40, "1234567"),
    *("\u0663", "\uff13", "3 4", "3\\v", "\\u20033", "3\\0", "=3", "'3", "true", "\\ud83d\\ude00"),
)
"""Each stands behind the name of an image, as the text of a Python string."""

TAKEN_LABELS = {" 7 ": 7, "\\t7": 7, "007": 7, "000000": 0, "32766": 32766, "40000": 32767,
                "999999": 32767, '\\"7\\"': 7}  # fmt: skip
"""What counts: text -> stored label."""

DEFENSES = [
    fine("constant", "OUT.write_text(answer())"),
    fine("bom_and_crlf", "OUT.write_bytes(answer().replace('\\n', '\\r\\n').encode('utf-8-sig'))"),
    fine("header_and_unknown_names",
         "OUT.write_text('name,label\\n../x.png,5\\nnobody.png,5\\n\\n,,\\n' + answer())"),
    fine("more_columns_and_formulas",
         "OUT.write_text(answer('3,=cmd|\\'/C calc\\'!A0,@SUM(1),+1') + '=1+1,3\\n')"),
    fine("the_same_twice", "OUT.write_text(answer() * 2)"),
    fine("readable_by_nobody", "OUT.write_text(answer())\nOUT.chmod(0)\nOUT.parent.chmod(0)"),
    Case(
        name="labels_that_are_none",
        kind="defense",
        program=f"""
refused = {list(REFUSED_LABELS)!r}
lines = [f"{{name}},{{eval(chr(34) + label + chr(34))}}" for name, label in zip(NAMES, refused)]
text = "\\n".join(lines) + "\\n" + answer(5, NAMES[len(refused):])
OUT.write_bytes(text.encode("utf-8", "surrogatepass"))
""",
        verdicts=(PARTIAL,),
        missing=len(REFUSED_LABELS),
    ),
    fine(
        "labels_that_look_odd",
        f"""
odd = {list(TAKEN_LABELS)!r}
lines = [f"{{name}},{{eval(chr(39) + label + chr(39))}}" for name, label in zip(NAMES, odd)]
OUT.write_text("\\n".join(lines) + "\\n" + answer(5, NAMES[len(odd):]))
""",
    ),
    Case(
        name="contradicts_itself",
        kind="defense",
        program="OUT.write_text(answer(3) + answer(4, NAMES[:2]) + answer('x', NAMES[2:4]))",
        verdicts=(PARTIAL,),
        missing=2,
    ),
    Case(
        name="a_field_of_131073_characters",
        kind="defense",
        program="OUT.write_text(f'{NAMES[0]},\"{\"3\" * 131073}\"\\n' + answer(3, NAMES[1:]))",
        verdicts=(PARTIAL,),
        missing=1,
    ),
    useless("semicolons", "OUT.write_text(answer().replace(',', ';'))"),
    useless("utf_16", "OUT.write_text(answer(), 'utf-16')"),
    useless("names_with_folders", "OUT.write_text(answer(names=['./' + n for n in NAMES]))"),
    useless("an_open_quote", "OUT.write_text('\"' + answer())"),
    useless("json", "OUT.write_text(repr({name: 3 for name in NAMES}))"),
    useless("empty_file", "OUT.touch()"),
    useless("no_file", "pass"),
    useless("binary", "OUT.write_bytes(bytes(range(256)) * 64)"),
    useless("a_folder", "OUT.mkdir()"),
    useless("a_fifo", "os.mkfifo(OUT)"),
    useless("a_link_to_itself", "OUT.symlink_to('result.csv')"),
    useless("a_link_to_its_labels",
            "Path('/tmp/x.csv').write_text(answer())\nOUT.symlink_to('/tmp/x.csv')"),
    useless("a_sparse_file", "OUT.write_text(answer())\nos.truncate(OUT, 200 << 20)"),
    useless("more_than_may_be_read", "OUT.write_text(answer() + '\\n' * (3 << 20))"),
    useless(
        "endless",
        """
text = answer().encode()
try:
    with open(OUT, "wb", 0) as file:
        while True:
            file.write(text * 100)
except OSError:
    pass
""",
        OUTPUT,
    ),
    Case(
        name="dies_after_half",
        kind="defense",
        program="OUT.write_text(answer(3, NAMES[::2]))\nos._exit(3)",
        verdicts=(CRASHED,),
        exit_code=3,
    ),
    fine(
        "sees_what_it_can",
        """
OUT.write_text(answer())
for path in sorted(IN.iterdir()):
    print(path, path.stat(), os.listxattr(path))
print(open("/proc/self/mountinfo").read(), open("/proc/self/cgroup").read())
""",
    ),
]  # fmt: skip
