"""What is tuned: the text of a settings file or of a recipe, and whether a space fits it."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcomp.errors import InvalidConfig
from advcomp.rules.toml_file import (
    nearest,
    parse_toml,
    read_toml_text,
    shown_value,
    toml_tables,
)
from advcomp.rules.toml_parameters import Value, parameter_problems
from advcomp.tournament.entry.entries import EntrySource
from advcomp.tuning.edited import edited, value_at
from advcomp.tuning.space import Dimension
from advcomp.tuning.tune_file import TuneFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A file that is tuned, as it is.

    Args:
        path: Where it stands; in an entry, the one that the tournament lays over it.
    """

    path: Path
    text: str

    @property
    def table(self) -> Mapping[str, object]:
        """What it says."""
        return tomllib.loads(self.text)

    def present(self, space: tuple[Dimension, ...]) -> dict[str, Value] | None:
        """Its own values of all dimensions, by name; None where one is not said, or outside."""
        table = self.table
        found = {each.name: value_at(table, each.key) for each in space}
        if any(found[each.name] not in each.values for each in space):
            return None
        return found  # type: ignore[return-value]


def settings_of(tune: TuneFile, entry: EntrySource) -> Settings:
    """The settings file of an entry.

    Raises:
        InvalidConfig: There is none, or it is no TOML.
    """
    inside = tune.settings
    assert inside is not None
    path = entry.files.get(inside) or entry.path / inside
    if not path.is_file():
        raise InvalidConfig(
            f'{tune.place("settings")}: expected a file of the entry "{entry.name}"; there is no '
            f"{path}; lay one over the entry in the tournament file: "
            f'files."{inside}" = "..."'
        )
    return _read(path)


def recipe_of(tune: TuneFile) -> Settings:
    """The recipe that is tuned.

    Raises:
        InvalidConfig: There is none, or it is no TOML.
    """
    assert tune.recipe is not None
    if not tune.recipe.is_file():
        raise InvalidConfig(f"{tune.place('recipe')}: there is no {tune.recipe}")
    return _read(tune.recipe)


def _read(path: Path) -> Settings:
    text = read_toml_text(path)
    toml_tables(path, text)
    return Settings(path=path, text=text)


def refuse_misfit(tune: TuneFile, settings: Settings, entry: EntrySource) -> None:
    """Refuse a space that is not of the settings file of an entry.

    What the library's own attacks and defenses take is known; another's settings file must say
    itself what is tuned.

    Raises:
        InvalidConfig: All that does not fit.
    """
    of_library = {"attack.toml": _misfits_of_attack, "defense.toml": _misfits_of_defense}
    misfits = of_library.get(Path(tune.settings or "").name)
    problems = None if misfits is None else misfits(tune, settings, entry)
    if problems is None:
        problems = [*_misfits_of_any(tune, settings)]
    if problems:
        raise InvalidConfig(*problems)


def _misfits_of_attack(tune: TuneFile, settings: Settings, entry: EntrySource) -> list[str] | None:
    """None where it is no settings file of the library's attacks."""
    from advcomp.players.attack_catalogue import AttackSettings, attack_named, parameters_of

    said = _said(AttackSettings, settings)
    attack = None if said is None else attack_named(said.attack)
    if said is None or attack is None:
        return None
    known = parameters_of(attack)
    weights = [*said.weights, *_surrogates(entry)]
    return [
        *_misfits(tune, settings, AttackSettings, said.attack, known),
        *(
            f"{tune.place('space', *each.key)}: expected a surrogate of the entry: "
            f"{', '.join(sorted(set(weights))) or 'it has none'}"
            for each in tune.dimensions
            if each.key[0] == "weights" and each.key[-1] not in weights
        ),
    ]


def _misfits_of_defense(
    tune: TuneFile, settings: Settings, entry: EntrySource
) -> list[str] | None:
    """None where it is no settings file of the library's defenses."""
    from advcomp.players.defense_catalogue import (
        DefenseSettings,
        defense_named,
        parameters_of,
    )

    said = _said(DefenseSettings, settings)
    defended = None if said is None else defense_named(said.defense)
    if said is None or defended is None:
        return None
    known = parameters_of(defended)
    return [*_misfits(tune, settings, DefenseSettings, said.defense, known)]


def _said(model: Any, settings: Settings) -> Any:
    try:
        return parse_toml(settings.text, settings.path, model)
    except InvalidConfig:
        return None


def _surrogates(entry: EntrySource) -> Iterator[str]:
    from advcomp.players.attack_catalogue import SURROGATES

    pattern = f"{SURROGATES}.safetensors"
    names = [Path(inside) for inside in entry.files]
    yield from (name.stem for name in [*names, *entry.path.glob(pattern)] if name.match(pattern))


def _misfits(
    tune: TuneFile, settings: Settings, model: Any, owner: str, known: Mapping[str, Any]
) -> Iterator[str]:
    """What does not fit a settings file of the library, whose parameters are `known`."""
    named = {"attack", "defense"}
    fields = [name for name in model.model_fields if name not in named]
    for each in tune.dimensions:
        place = tune.place("space", *each.key)
        if each.key[0] == "parameters" and len(each.key) == 2:
            told = (
                next(
                    parameter_problems(
                        tune.path, owner, known, {each.key[1]: end}, ("space", "parameters")
                    ),
                    None,
                )
                for end in each.values.ends
            )
            yield from [*filter(None, told)][:1]
        elif each.key[0] in named:
            yield f"{place}: is what is tuned; tune one {each.key[0]} at a time"
        elif each.key[0] not in fields:
            yield (
                f"{place}: expected a key of {settings.path.name}: {', '.join(fields)}; "
                f'the nearest is "{nearest(each.key[0], fields)}"'
            )
        else:
            yield from refused_values(tune, settings, model, each)


def _misfits_of_any(tune: TuneFile, settings: Settings) -> Iterator[str]:
    known = {".".join(key): value for key, value in _leaves(settings.table)}
    for each in tune.dimensions:
        place = tune.place("space", *each.key)
        if each.name not in known:
            near = f'; the nearest is "{nearest(each.name, [*known])}"' if known else ""
            yield f"{place}: expected a value that {settings.path} says{near}"
            continue
        present, kind = known[each.name], type(known[each.name])
        numbers = {int, float}
        for end in each.values.ends:
            if type(end) is not kind and not {type(end), kind} <= numbers:
                yield (
                    f"{place}: expected values like the one in {settings.path}, "
                    f"{shown_value(present)}; got {shown_value(end)}"
                )
                break


def _leaves(table: object, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(table, Mapping):
        for name, value in table.items():
            yield from _leaves(value, (*key, name))
    elif isinstance(table, list):
        for index, value in enumerate(table):
            yield from _leaves(value, (*key, str(index)))
    else:
        yield key, table


def refused_values(tune: TuneFile, file: Settings, model: Any, each: Dimension) -> Iterator[str]:
    """The first value of a dimension that the file may not have, if there is one."""
    for end in each.values.ends:
        try:
            parse_toml(edited(file.text, {each.key: end}), file.path, model)
        except InvalidConfig as error:
            yield f"{tune.place('space', *each.key)}: {shown_value(end)} is refused: {error}"
            return
        except KeyError:
            yield f"{tune.place('space', *each.key)}: there is no such place in {file.path}"
            return
