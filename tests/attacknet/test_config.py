"""Recipes: every key has a place and an explanation, and whatever is wrong is named."""

from pathlib import Path

import pytest

from advcomp.attacknet.recipe import AttackNetworkRecipe, EpsilonInput, load_network_recipe
from advcomp.errors import InvalidConfig
from advcomp.rules.toml_file import Table

MINIMAL = """\
name = "tiny"
[data]
source = "digits"
[loss]
margin = 1.0
[[targets]]
weights = "a.safetensors"
"""


def recipe(folder: Path, text: str) -> AttackNetworkRecipe:
    for name in ("a", "b"):
        (folder / f"{name}.safetensors").touch()
    path = folder / "train.toml"
    path.write_text(text, encoding="utf-8")
    return load_network_recipe(path)


def test_a_minimal_recipe_is_complete(tmp_path: Path) -> None:
    read = recipe(tmp_path, MINIMAL)
    assert read.targets[0].weights == tmp_path / "a.safetensors"
    assert read.loss.weights == {"margin": 1.0}
    assert read.network.epsilon is EpsilonInput.HEADS
    assert read.threat.max_epsilons == tuple(range(4, 17))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["name: missing", "data: missing", "targets: missing", "loss: missing"]),
        (
            f'sed = 1\n{MINIMAL}[training]\nstep = 3\n[device]\nprecision = "bf8"\n',
            [
                ':1: sed: unknown key; the nearest known one is "seed"',
                ':10: [training] step: unknown key; the nearest known one is "steps"',
                ":12: [device] precision: expected one of float32, bf16, fp16, float64; got",
            ],
        ),
        (
            MINIMAL.replace('source = "digits"', 'source = "digits"\npath = "x"'),
            [':2: data: path: goes only with source = "cifar10", "folder" or "arrays"'],
        ),
        (MINIMAL.replace("digits", "cifar10"), [":2: data: path: goes only with source"]),
        (MINIMAL.replace("margin = 1.0", "confidence = 1.0"), [":4: loss: expected a weight"]),
        (
            MINIMAL.replace("margin", "feature_distance"),
            ["[targets] [0] feature_layer: goes only with [loss] feature_distance above 0"],
        ),
        (f'{MINIMAL}feature_layer = "x"\n', ["[targets] [0] feature_layer: goes only with"]),
        (
            f"{MINIMAL}".replace("margin", "feature_distance")
            + 'feature_layer = "x"\n[threat]\ntargeted = true\n',
            ["[loss] feature_distance has no targeted form"],
        ),
        (
            f'{MINIMAL}[hint]\nmode = "one"\n',
            [':8: hint: surrogate: goes only with mode = "one" or "recurrent"'],
        ),
        (f'{MINIMAL}[hint]\nsurrogate = "a.safetensors"\n', [":8: hint: surrogate: goes only"]),
        (
            f'{MINIMAL}[[transforms]]\nname = "scale"\nsigma = 2.0\n',
            [':8: [transforms][0]: "scale" takes probability, low; it has no sigma'],
        ),
        (f'{MINIMAL}[[transforms]]\nname = "zoom"\n', ["expected one of diverse_inputs, block"]),
        (
            f"{MINIMAL}[parallel]\nmodel_ranks = 2\n",
            ["[parallel] model_ranks: expected at most as many as [[targets]], 1; got 2"],
        ),
        (
            f"{MINIMAL}[training]\nsteps = 50\n",
            ["[training] warm_up_steps: expected fewer than steps, 50; got 50"],
        ),
        (
            f"{MINIMAL}[training]\ntargets_per_image = 2\nminutes = 0\n",
            [":10: [training] minutes: expected minutes, above 0, after which training ends"],
        ),
        (
            f"{MINIMAL}[training]\ntargets_per_image = 2\n",
            ["[training] targets_per_image: expected at most as many as [[targets]], 1; got 2"],
        ),
        (f'{MINIMAL}[hint]\nlayers = ["x"]\n', [":8: hint: layers: goes only with mode = "]),
        (f'{MINIMAL}[device]\nname = "gpu"\n', ["name: expected one of auto, cpu, cuda"]),
        (f"{MINIMAL}[parallel]\ntimeout_s = 1e300\n", ["seconds that ranks wait for each other"]),
        (
            MINIMAL.replace("margin = 1.0", "cross_entropy = 1.0\nconfidence = 2.0"),
            [":4: loss: confidence: goes only with margin above 0"],
        ),
        (
            f'{MINIMAL}[[targets]]\nweights = "./a.safetensors"\n[network]\nembedding = 8\n',
            [
                "[targets] [1] weights: expected each classifier once; ",
                '[network] embedding: goes only with epsilon = "condition" or "both"',
            ],
        ),
        (
            f"{MINIMAL}[gradients]\ncount = 2\n",
            [":8: gradients: surrogates: go only with count above 0, which needs one or more"],
        ),
        (
            f'{MINIMAL}[gradients]\nsurrogates = ["a.safetensors"]\n',
            [":8: gradients: surrogates: go only with count above 0"],
        ),
        (
            f'{MINIMAL}[gradients]\nlabels = "hard"\n',
            [":8: gradients: labels: goes only with count above 0; it is 0"],
        ),
        (
            f"{MINIMAL}[threat]\ntargeted = true\n[gradients]\ncount = 1\n"
            'surrogates = ["a.safetensors"]\nkeep = true\n',
            ["[gradients] keep: goes only with [data] shift = 0 and [threat] targeted = false"],
        ),
        (
            f'{MINIMAL}[threat]\ntargeted = true\n[network]\noutput = "residual"\n[gradients]\n'
            'count = 1\nlabels = "soft"\nsurrogates = ["a.safetensors", "./a.safetensors", "b"]\n'
            '[hint]\nmode = "recurrent"\nsurrogate = "a.safetensors"\n',
            [
                "[gradients] labels: goes only with [threat] targeted = false",
                '[network] output: "residual" has no second pass',
                "[gradients] surrogates [1]: expected each classifier once",
                "[gradients] surrogates: expected the path of a file, seen from the recipe; none",
            ],
        ),
        (
            f"{MINIMAL}[network]\nsharpness = 2.0\nfilter_size = 5\n",
            [
                '[network] sharpness: goes only with output = "residual" or "sign"; output is "ga',
                '[network] filter_size: goes only with output = "residual" or "sign", and with',
            ],
        ),
        (
            f"{MINIMAL}[network]\nfilter_size = 4\n",
            [":9: [network] filter_size: expected an odd number of pixels; got 4"],
        ),
        (f"{MINIMAL}[network]\nwidths = [32, 20]\n", [":9: [network] widths[1]: expected the"]),
        (f"{MINIMAL}[network]\nwidths = [32]\n", [":9: [network] widths: expected the channels"]),
        (
            f"{MINIMAL}[network]\nwidths = []\nblocks = 2\n[hint]\n"
            'mode = "one"\nsurrogate = "a.safetensors"\n',
            [
                '[network] widths: none go only with output = "residual" or "sign", and with',
                '[network] widths: none go only with [hint] mode = "none"',
                "[network] blocks: goes only with widths; they are []",
            ],
        ),
        (f"{MINIMAL}[threat]\nmax_epsilons = [8, 8]\n", ["expected one or more pixel levels"]),
        (
            MINIMAL.replace('"a.safetensors"', '"none.safetensors"'),
            ["[[targets]] weights: expected the path of a file, seen from the recipe; none at"],
        ),
    ],
)
def test_all_that_is_wrong_is_named_at_once(
    text: str, problems: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        recipe(tmp_path, text)
    found = caught.value.problems
    assert len(found) == len(problems), found
    for problem, expected in zip(found, problems, strict=True):
        assert problem.startswith(str(tmp_path / "train.toml"))
        assert expected in problem


def tables(table: type[Table]) -> set[type[Table]]:
    inner = {
        kind
        for field in table.model_fields.values()
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
        if isinstance(kind, type) and issubclass(kind, Table)
    }
    return {table, *inner}


def test_every_key_says_what_is_expected_of_it() -> None:
    found = tables(AttackNetworkRecipe)
    assert len(found) == 15
    for table in found:
        assert table.__doc__
        assert all(field.description for field in table.model_fields.values())
