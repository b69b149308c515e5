from collections.abc import Callable
from pathlib import Path

import pytest

from advcomp.errors import InvalidConfig
from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.config import load_tournament
from advcomp.tournament.entry.entries import EntryList, EntrySource, Role, load_entries

SUBMITTED = """
[[entry]]
name = "{name}"
kind = "{kind}"
archive = "{archive}"
digest = "{digest}"
"""
DIGEST = "0123456789abcdef" * 4

Load = Callable[..., EntryList]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads the entries of a tournament file that lies two folders below `tmp_path`."""

    def load(attacks: str = "", defenses: str = "") -> EntryList:
        file = tmp_path / "rounds" / "one" / "t.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = 'name = "t"\ndataset.source = "digits"\n[entries]\n'
        file.write_text(f"{text}attacks = [{attacks}]\ndefenses = [{defenses}]\n")
        return load_entries(load_tournament(file))

    return load


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Callable[..., list[str]]:
    """What is wrong with a list of entries, without the path of the test's folder."""

    def problems(attacks: str = "", defenses: str = "") -> list[str]:
        with pytest.raises(InvalidConfig) as caught:
            load(attacks, defenses)
        return [each.replace(f"{tmp_path}/", "") for each in caught.value.problems]

    return problems


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "metadata.json").write_text("{}")
    return path


def file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def submit(tmp_path: Path, **fields: str) -> None:
    """Writes a submission down as `submit` does."""
    archive = f"{fields['name'].replace(' ', '-')}-1.zip"
    fields = {"kind": "attack", "archive": archive, "digest": DIGEST} | fields
    folder = tmp_path / "rounds/one/entries"
    file(folder / Path(fields["archive"]).name)
    with (folder / "entries.toml").open("a") as entries:
        entries.write(SUBMITTED.format_map(fields))


def names(entries: EntryList) -> list[str]:
    return [source.name for source in entries.sources]


def test_paths_are_relative_to_the_file_and_names_their_base_names(
    load: Load, tmp_path: Path
) -> None:
    paths = [
        folder(tmp_path / "attacks/fgsm"),
        *map(
            file,
            (tmp_path / "rounds/one/v1.2.zip", tmp_path / "a.tar", tmp_path / "rounds/b.tar.gz"),
        ),
    ]
    entries = load('"../../attacks/fgsm", "v1.2.zip"', '"../../a.tar", "../b.tar.gz"')
    assert entries.sources == (
        EntrySource(path=paths[0], name="fgsm", role=Role.ATTACK),
        EntrySource(path=paths[1], name="v1.2", role=Role.ATTACK),
        EntrySource(path=paths[2], name="a", role=Role.DEFENSE),
        EntrySource(path=paths[3], name="b", role=Role.DEFENSE),
    )
    assert entries.notes == ()


def test_a_table_gives_name_team_baseline_and_files(load: Load, tmp_path: Path) -> None:
    entry, weights = folder(tmp_path / "a"), file(tmp_path / "rounds/one/weights/w")
    (source,) = load(
        '{ path = "../../a", name = "b", team = "red", baseline = true,'
        ' files = { "m/w" = "weights/w" } }'
    ).sources
    assert source == EntrySource(
        path=entry,
        name="b",
        role=Role.ATTACK,
        team="red",
        baseline=True,
        files={"m/w": weights},
    )


def test_a_glob_takes_entries_sorted_and_notes_the_rest(load: Load, tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        folder(tmp_path / "d" / name)
    (tmp_path / "d/no-metadata").mkdir()
    for name in ("c.tar.gz", "README.md", ".DS_Store"):
        file(tmp_path / "d" / name)
    entries = load("", '"../../d/*"')
    assert names(entries) == ["a", "b", "c"]
    assert [note.replace(f"{tmp_path}/", "") for note in entries.notes] == [
        'rounds/one/t.toml:5: [entries] defenses[0]: "../../d/*" leaves out README.md,'
        " no-metadata: it takes folders with a metadata.json and archives (.zip, .tar, .tar.gz)"
    ]


def test_an_absolute_glob_is_one_too(load: Load, tmp_path: Path) -> None:
    folder(tmp_path / "d/a")
    assert names(load(f'"{tmp_path}/d/*"')) == ["a"]


def test_a_folder_whose_name_looks_like_a_glob_is_itself(load: Load, tmp_path: Path) -> None:
    folder(tmp_path / "a[1]"), folder(tmp_path / "a1")
    (source,) = load('{ path = "../../a[1]", name = "a" }').sources
    assert source.path == tmp_path / "a[1]"


def test_the_files_of_a_glob_are_laid_over_each_match(load: Load, tmp_path: Path) -> None:
    folder(tmp_path / "d/a"), folder(tmp_path / "d/b")
    weights = file(tmp_path / "w")
    entries = load("", '{ path = "../../d/*", files = { "w" = "../../w" }, team = "x" }')
    assert [source.files for source in entries.sources] == [{"w": weights}] * 2
    assert [source.team for source in entries.sources] == ["x", "x"]


def test_a_glob_with_a_name_may_match_one_entry_only(
    load: Load, problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder(tmp_path / "d/a")
    assert names(load('{ path = "../../d/*", name = "x" }')) == ["x"]
    folder(tmp_path / "d/b")
    assert problems('{ path = "../../d/*", name = "x" }')[0] == (
        'rounds/one/t.toml:4: [entries] attacks[0]: "../../d/*": expected one match, since it'
        " gives a name; got a, b; leave the name out, or write an item for each"
    )


def test_a_link_has_its_own_name(load: Load, tmp_path: Path) -> None:
    folder(tmp_path / "v17")
    (tmp_path / "alice").symlink_to("v17")
    assert names(load('"../../alice"')) == ["alice"]


def test_the_current_folder_has_the_name_it_has_outside(load: Load, tmp_path: Path) -> None:
    assert names(load('"."')) == ["one"]


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            '"../../missing"',
            "expected a folder or an archive (.zip, .tar, .tar.gz); there is no missing",
        ),
        (
            '"../../notes.txt"',
            "expected a folder or an archive (.zip, .tar, .tar.gz);"
            " notes.txt is another kind of file",
        ),
        (
            '"../../nothing/*"',
            '"../../nothing/*": expected to match folders with a metadata.json and archives'
            " (.zip, .tar, .tar.gz); matches nothing",
        ),
        (
            '"../../*.txt"',
            '"../../*.txt": expected to match folders with a metadata.json and archives'
            " (.zip, .tar, .tar.gz); matches notes.txt",
        ),
        (
            '"../../my entry"',
            'my entry: expected a name of 1 to 64 letters, digits, ".", "_" and "-" that starts'
            ' with a letter or a digit; got "my entry"; write { path = "...", name = "..." }',
        ),
    ],
)
@pytest.mark.parametrize("role", list(Role))
def test_a_wrong_item_is_named_with_its_line(
    problems: Callable[..., list[str]], tmp_path: Path, role: Role, item: str, problem: str
) -> None:
    folder(tmp_path / "my entry"), folder(tmp_path / "right"), file(tmp_path / "notes.txt")
    lists = {f"{role}s": f'"../../right", {item}'}
    line = 4 if role is Role.ATTACK else 5
    place = f"rounds/one/t.toml:{line}: [entries] {role}s[1]"
    assert problems(**lists) == [f"{place}: {problem}"]


def test_files_to_lay_over_have_to_exist(
    problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder(tmp_path / "a")
    assert problems('{ path = "../../a", files = { "w" = "weights/w", "x" = "../../a" } }') == [
        "rounds/one/t.toml:4: [entries] attacks[0] files w: expected a file;"
        " there is no rounds/one/weights/w",
        "rounds/one/t.toml:4: [entries] attacks[0] files x: expected a file; a is a folder",
    ]


@pytest.mark.parametrize(
    ("attacks", "display"),
    [
        ('{ path = "../../x/a", display = "?" }, { path = "../../y/b", display = "?" }', "?"),
        ('{ path = "../../x/a", display = "b" }, "../../y/b"', "b"),
    ],
)
def test_the_public_sees_every_name_once(
    problems: Callable[..., list[str]], tmp_path: Path, attacks: str, display: str
) -> None:
    folder(tmp_path / "x/a"), folder(tmp_path / "y/b")
    assert problems(attacks) == [
        f'rounds/one/t.toml: expected the public to see every name once; got "{display}" for x/a'
        " and for y/b; give one of them another `display`"
    ]


@pytest.mark.parametrize(
    ("attacks", "defenses"),
    [
        ('"../../x/same", "../../y/same.zip"', ""),
        ('"../../x/same"', '"../../y/same.zip"'),
        ('"../../x/same"', '{ path = "../../y/same.zip", name = "same" }'),
    ],
)
def test_one_name_twice_is_an_error_that_names_both_paths(
    problems: Callable[..., list[str]], tmp_path: Path, attacks: str, defenses: str
) -> None:
    folder(tmp_path / "x/same"), file(tmp_path / "y/same.zip")
    assert problems(attacks, defenses) == [
        'rounds/one/t.toml: expected every name once; got "same" for x/same and for y/same.zip;'
        " give one of them another name"
    ]


def test_all_problems_are_reported_together(
    problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    submit(tmp_path, name="alice", kind="atack")
    assert [each.split(": ")[1] for each in problems('"a", "*.zip"', '"b"')] == [
        "[entries] attacks[0]",
        "[entries] attacks[1]",
        "[entries] defenses[0]",
        "[entry][0] kind",
    ]


def test_a_tournament_without_entries_is_refused(problems: Callable[..., list[str]]) -> None:
    assert problems() == [
        "rounds/one/t.toml: expected at least one entry, in [entries] or submitted; got none"
    ]


def test_submissions_take_part_by_their_kind(load: Load, tmp_path: Path) -> None:
    submit(tmp_path, name="alice", team="x", digest="a" * 64)
    submit(tmp_path, name="bob", kind="targeted_attack")
    submit(tmp_path, name="carol", kind="defense")
    folder(tmp_path / "d/plain")
    entries = load("", '"../../d/*"')
    assert [(source.name, source.role) for source in entries.sources] == [
        ("plain", Role.DEFENSE),
        ("alice", Role.ATTACK),
        ("bob", Role.ATTACK),
        ("carol", Role.DEFENSE),
    ]
    assert entries.sources[1].path == tmp_path / "rounds/one/entries/alice-1.zip"
    assert [source.digest for source in entries.sources] == [None, "a" * 64, DIGEST, DIGEST]
    assert [source.kind for source in entries.sources] == [None, *SubmissionType]


def test_the_latest_submission_of_a_name_counts(load: Load, tmp_path: Path) -> None:
    submit(tmp_path, name="alice", archive="alice-1.zip")
    submit(tmp_path, name="bob", kind="defense")
    submit(tmp_path, name="alice", archive="alice-2.zip", kind="defense")
    (tmp_path / "rounds/one/entries/alice-1.zip").unlink()
    found = {source.name: (source.path.name, source.role) for source in load().sources}
    assert found == {"alice": ("alice-2.zip", Role.DEFENSE), "bob": ("bob-1.zip", Role.DEFENSE)}


def test_a_submission_of_a_listed_name_is_an_error(
    problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder(tmp_path / "alice")
    submit(tmp_path, name="alice")
    (problem,) = problems('"../../alice"')
    assert "for alice and for rounds/one/entries/alice-1.zip" in problem


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "a b"}, ":3: [entry][0] name: expected a name of"),
        ({"kind": "atack"}, ":4: [entry][0] kind: expected one of attack, targeted_attack, def"),
        ({"archive": "../a.zip"}, ":5: [entry][0] archive: expected the name of a file beside"),
        ({"archive": "a.rar"}, ":5: [entry][0] archive: expected the name of a file beside"),
        ({"digest": "abc"}, ':6: [entry][0] digest: expected 64 hexadecimal digits; got "abc"'),
        ({"digest": f'{DIGEST}"\nsize = "1'}, ":7: [entry][0] size: unknown key; the nearest"),
    ],
)
def test_a_wrong_line_in_the_list_of_submissions_is_named(
    problems: Callable[..., list[str]], tmp_path: Path, fields: dict[str, str], problem: str
) -> None:
    submit(tmp_path, **({"name": "alice"} | fields))
    (found,) = problems()
    assert found.startswith(f"rounds/one/entries/entries.toml{problem}")


def test_the_second_submission_is_found_on_its_own_line(
    problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    submit(tmp_path, name="alice")
    submit(tmp_path, name="bob", kind="defence")
    (found,) = problems()
    assert found.startswith("rounds/one/entries/entries.toml:10: [entry][1] kind: expected one of")


def test_a_submission_that_is_gone_is_named(
    problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    submit(tmp_path, name="alice")
    (tmp_path / "rounds/one/entries/alice-1.zip").unlink()
    assert problems() == [
        "rounds/one/entries/entries.toml:5: [entry][0] archive: expected an archive;"
        " there is no rounds/one/entries/alice-1.zip"
    ]
