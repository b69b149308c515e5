import tomllib
from pathlib import Path

from advcomp.tournament.config import load_tournament
from advcomp.tournament.entry.entries import load_entries

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "tournament" / "digits"
FILES = ("digits.toml", "official.toml")


def test_the_official_tournament_differs_from_the_demo_in_name_and_view_only() -> None:
    demo, official = (tomllib.loads((DIGITS / f).read_text()) for f in FILES)
    assert (demo.pop("name"), official.pop("name")) == ("digits", "official")
    assert (demo.pop("defense"), official.pop("defense")) == (
        {"view": "pooled"},
        {"view": "latin"},
    )
    assert demo == official


def test_every_sample_plays_in_a_tournament() -> None:
    """But the denoiser: its weights are for the digits, whose demo stays as small as it is."""
    files = [DIGITS / "digits.toml", ROOT / "tournament" / "cifar10" / "cifar10.toml"]
    played = {
        (file.parent / entry["path"]).resolve()
        for file in files
        for entries in tomllib.loads(file.read_text())["entries"].values()
        for entry in entries
    }
    samples = {path.parent for path in ROOT.glob("[ad]*/*/metadata.json")}
    assert samples - played == {ROOT / "defenses" / "denoiser"}


def test_no_defense_of_the_demo_is_an_attack_s_surrogate() -> None:
    sources = load_entries(load_tournament(DIGITS / "digits.toml")).sources
    weights: dict[str, set[Path]] = {"attack": set(), "defense": set()}
    for source in sources:
        assert source.role is not None
        weights[source.role] |= set(source.files.values())
    assert weights["attack"]
    assert weights["defense"]
    assert not weights["attack"] & weights["defense"]
