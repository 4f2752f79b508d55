"""Settings of fit-navigator and measure-delta: presets, and one line for each thing that cannot be."""

import dataclasses
import re
from pathlib import Path

import click
import pytest

from genrep.errors import ConfigError, RecipeError
from genrep.generate.commands.fits import fit_navigator_command
from genrep.generate.fits.config import HL_SINGLE, PRESETS, DeltaConfig, NavigatorConfig
from genrep.generate.views.base import check_range, parse_range
from genrep.runs.folder import differences

OUT = Path("run")


def test_presets_are_the_papers():
    cop_gen = NavigatorConfig.of_preset("cop-gen", gen="bigbigan", out=OUT)
    assert (cop_gen.batch_size, cop_gen.lr_walk, cop_gen.lr_f, cop_gen.samples) == (176, 1e-5, 3e-5, 200_000)
    assert (cop_gen.init, cop_gen.pixel_views, cop_gen.temperature) == ("torch", "simclr", 0.1)
    hl = NavigatorConfig.of_preset("hl", gen="bigbigan", out=OUT, chunks="1-5", batch_size=None)
    assert (hl.batch_size, hl.init, hl.pixel_views, hl.crop) == (64, "small", "none", 112)
    assert NavigatorConfig.of_preset("hl", gen="bigbigan", out=OUT, pixel_views="no-crop").pixel_views == "no-crop"
    assert NavigatorConfig(gen="bigbigan", out=OUT) == cop_gen


@pytest.mark.parametrize(
    ("moved", "rates"),
    [
        ({}, (1e-5, 3e-5)),  # a learned baseline
        ({"chunks": "1-5"}, (1e-5, 3e-5)),  # the final walker
        ({"chunks": "0-1"}, (1e-5, 3e-5)),
        ({"chunks": "3"}, (8e-5, 5e-5)),
        ({"chunks": "3-3"}, (8e-5, 5e-5)),
        ({"layers": "8-11"}, (8e-5, 5e-5)),
        ({"chunks": "3", "lr_walk": 1e-3}, (1e-3, 5e-5)),
    ],
)
def test_hls_rates_are_those_of_what_the_walk_moves(moved, rates):
    config = NavigatorConfig.of_preset("hl", gen="bigbigan", out=OUT, **moved)
    assert (config.lr_walk, config.lr_f) == rates
    assert NavigatorConfig.of_preset("cop-gen", gen="bigbigan", out=OUT, chunks="3").lr_walk == 1e-5


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"chunks": "5-1"}, r"chunks '5-1': wanted a number or a range such as 1-5"),
        ({"chunks": "a"}, r"chunks 'a': wanted a number or a range such as 1-5"),
        ({"layers": "1:4"}, r"layers '1:4': wanted a number or a range"),
        ({"chunks": "1", "layers": "1"}, r"chunks 1 and layers 1: give one of the two"),
        ({"walk": "deep"}, r"walk 'deep': wanted one of mlp, linear"),
        ({"init": "zero"}, r"init 'zero': wanted one of torch, small"),
        ({"pixel_views": "blur"}, r"pixel_views 'blur': wanted one of simclr, no-color, no-crop, none"),
        ({"max_distance": 0.0}, r"max_distance 0\.0: wanted a positive number"),
        ({"max_distance": float("nan")}, r"max_distance nan: wanted a positive number"),
        ({"stop_at_loss": -1.0}, r"stop_at_loss -1\.0: wanted a positive number"),
        ({"lr_walk": 0.0}, r"lr_walk 0\.0: wanted a positive number"),
        ({"batch_size": 1}, r"batch_size 1: wanted at least 2"),
        ({"reduction": 0}, r"reduction 0: wanted at least 1"),
        ({"arch": "vgg"}, r"arch 'vgg': wanted one of resnet18"),
        ({"seed": -1}, r"seed -1: wanted 0 to 2\^63 - 1"),
        ({"seed": 1 << 63}, r"seed \d+: wanted 0 to 2\^63 - 1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(wrong, line):
    with pytest.raises(ConfigError, match="^" + line):
        NavigatorConfig(gen="bigbigan", out=OUT, **wrong)


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match=r"^preset 'x': wanted one of cop-gen, hl"):
        NavigatorConfig.of_preset("x", gen="bigbigan", out=OUT)


def test_measure_delta_wants_walks_and_a_json_file():
    with pytest.raises(ValueError, match=r"^walks: wanted at least one"):
        DeltaConfig(walks=(), out=Path("delta.json"))
    with pytest.raises(ValueError, match=r"^out delta: wanted a name that ends in \.json"):
        DeltaConfig(walks=(OUT,), out=Path("delta"))
    with pytest.raises(ValueError, match=r"^anchors 0: wanted at least 1"):
        DeltaConfig(walks=(OUT,), out=Path("delta.json"), anchors=0)


def test_a_range_includes_both_ends():
    assert parse_range("1-5", "--chunks") == (1, 5)
    assert parse_range("3", "--chunks") == (3, 3)
    with pytest.raises(RecipeError, match=r"--chunks 1-6: this generator has chunks 0 to 5"):
        check_range("1-6", 6, "--chunks", "chunks")


def test_differences_name_every_setting():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}) == "b 3 there, 2 asked for"


def test_the_help_tells_the_defaults_of_both_presets():
    options = {one.name: one for one in fit_navigator_command.params if isinstance(one, click.Option)}
    hl = PRESETS["hl"]
    for field in dataclasses.fields(NavigatorConfig):
        if field.name in ("gen", "out") or field.default in (None, False):
            continue
        text = options[field.name].help
        found = re.search(r"\[default: (.*?)(?:; hl(?: with one chunk or group of layers)?: (.*))?\]$", text)
        assert found, field.name
        other = HL_SINGLE.get(field.name, hl.get(field.name, field.default))
        assert (found[1], found[2] or found[1]) == (str(field.default), str(other)), field.name
