"""Keys and the names that come from them."""

import stat
from pathlib import Path

import pytest

from advcomp.errors import InvalidConfig, RunConflict
from advcomp.tournament.job.opaque import Key, open_key


def test_a_new_key_is_random_private_and_kept(tmp_path: Path) -> None:
    first, again = open_key(tmp_path / "key"), open_key(tmp_path / "key")
    other = open_key(tmp_path / "other")
    assert first == again != other
    assert len(first.secret) == 32
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_given_key_is_used_and_another_one_refused(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("ab" * 32)
    assert open_key(tmp_path / "key", given).secret == b"\xab" * 32
    assert open_key(tmp_path / "key", given).secret == b"\xab" * 32
    given.write_text("cd" * 32)
    with pytest.raises(RunConflict, match="another key"):
        open_key(tmp_path / "key", given)


def test_a_key_that_is_gone_can_be_put_back_and_not_be_made_anew(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("ab" * 32)
    digest = Key(b"\xab" * 32).digest
    with pytest.raises(RunConflict, match=f"{digest}.*; got none; put it back"):
        open_key(tmp_path / "key", digest=digest)
    assert open_key(tmp_path / "key", kept, digest=digest).digest == digest
    (tmp_path / "key").write_text("cd" * 32)
    with pytest.raises(RunConflict, match="got another one"):
        open_key(tmp_path / "key", digest=digest)
    with pytest.raises(RunConflict, match="got another one"):
        open_key(tmp_path / "new", tmp_path / "key", digest=digest)
    assert not (tmp_path / "new").exists()


def test_a_key_may_be_given_as_32_plain_bytes(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(bytes(range(224, 256)))
    assert open_key(tmp_path / "key", given).secret == bytes(range(224, 256))
    assert open_key(tmp_path / "key").secret == bytes(range(224, 256))


def test_a_device_is_no_key_and_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="digits; got a device"):
        open_key(tmp_path / "key", Path("/dev/null"))


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 31, "ab" * 33])
def test_what_is_no_key_is_refused_by_name(tmp_path: Path, text: str) -> None:
    given = tmp_path / "given"
    given.write_text(text)
    with pytest.raises(InvalidConfig, match="given: expected a key"):
        open_key(tmp_path / "key", given)


def test_names_depend_on_the_key_and_on_every_part() -> None:
    one, two = Key(b"\1" * 32), Key(b"\2" * 32)
    names = [one.name("a", 1), one.name("a", 2), one.name("b", 1), two.name("a", 1)]
    assert len(set(names)) == 4
    assert names[0] == Key(b"\1" * 32).name("a", 1)
    assert one.name("a", 11) != one.name("a1", 1)


def test_offsets_reach_every_value_about_equally_often() -> None:
    key = Key(b"\7" * 32)
    counts = [0] * 5
    for i in range(5000):
        counts[key.offset(5, "wave", i)] += 1
    # 1,000 each, standard deviation 28: five of them.
    assert all(860 < count < 1140 for count in counts)
