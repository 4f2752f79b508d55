"""A navigator whose moves no pixel shows is told of, where it is fitted and where a dataset is made with it."""

import json

import numpy as np
import pytest

from genrep.cli import invoke
from genrep.generate.cli import cli
from genrep.generate.fits.navigator import fit_navigator
from genrep.generate.sources.open import is_learned, mean_change, warning
from genrep.generate.views import parse_view

pytestmark = [
    pytest.mark.usefixtures("small_estimator"),
    pytest.mark.filterwarnings("ignore:The distutils package is deprecated:DeprecationWarning"),
]
FIT = ["--gen", "wavegen:plain", "--batch-size", "4", "--samples", "8", "--device", "cpu", "--precision", "fp32"]


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "seen"), [("1e-3", False), ("3", True)])
def test_the_command_and_a_dataset_say_what_cannot_be_seen(waves_folder, capsys, distance, seen):
    assert invoke(cli, ["fit-navigator", *FIT, "--max-distance", distance, "--lr-walk", "1e-3", "--out", "run"]) == 0
    out, err = capsys.readouterr()
    change = json.loads((waves_folder / "run/navigator.json").read_text())["pixel_change"]
    assert f"pixels change  by {change:.2f} of 255 levels" in out and (change >= 1) == seen
    assert ("warning: the navigator changes pixels by" in err and "--max-distance" in err) == (not seen)
    made = [
        "--views",
        "navigator:weights=run",
        "--num-pairs",
        "4",
        "--processes",
        "1",
        "--device",
        "cpu",
        "--out",
        "set",
    ]
    for first in (True, False):
        assert invoke(cli, ["dataset", "--gen", "wavegen:plain", *made]) == 0
        said = capsys.readouterr().err
        assert ("warning: --views: the navigator changes pixels" in said) == (first and not seen)


def test_the_change_is_the_mean_over_all_values(config):
    one = np.zeros((2, 2, 2, 3), dtype=np.uint8)
    other = one.copy()
    other[0, 0, 0] = (255, 3, 0)
    assert mean_change(one, other) == mean_change(other, one) == pytest.approx(258 / 24)
    assert warning(1.0) is None and "0.30 of 255" in warning(0.3)
    result = fit_navigator(config(max_distance=1e-9))
    assert result.pixel_change < 0.01


def test_navigators_are_found_inside_other_views(waves_folder, config):
    fit_navigator(config(chunks="1"))
    (waves_folder / "view.toml").write_text(
        'name = "hierarchical"\nover = "chunks"\n[[parts]]\nchunks = "1"\n'
        'view = {name = "navigator", weights = "run"}\n[[parts]]\nchunks = "0"\nview = {name = "gaussian"}\n'
    )
    assert is_learned(parse_view("view.toml")) and is_learned(parse_view("navigator:weights=run"))
    assert not is_learned(parse_view("hierarchical:0=genrep-gaussian")) and not is_learned(
        parse_view("genrep-gaussian")
    )
