"""What may be written for a view, and what is said to what may not."""

import numpy as np
import pytest

from genrep.errors import GenRepError, RecipeError
from genrep.generate.views import NAMES, PRESETS, parse_view, view_from_json

TABLE = """
[views]
name = "hierarchical"
over = "layers"

[[views.parts]]
layers = "0-3"
view = { name = "navigator", weights = "walks/NAME" }

[[views.parts]]
layers = "4-7"
view = "genrep-gaussian"
"""


def test_a_toml_file_is_a_view_with_files_beside_it(tmp_path, navigator):
    path = navigator(8)
    (tmp_path / "walks").mkdir()
    path.rename(tmp_path / "walks" / path.name)
    (tmp_path / "views.toml").write_text(TABLE.replace("NAME", path.name))
    view = parse_view(str(tmp_path / "views.toml"))
    assert view.w_groups == ((0, 3), (4, 7))
    assert view.to_json()["parts"][0]["view"]["dim"] == 8
    assert [file.path for file in view.files()] == [tmp_path / "walks" / path.name]


def test_parts_are_put_in_order_and_none_is_a_part_without_a_view():
    view = parse_view("hierarchical:4-5=gaussian,0=none,1-3=uniform")
    assert [(part.range, part.view and part.view.name) for part in view.parts] == [
        ("0", None),
        ("1-3", "uniform"),
        ("4-5", "gaussian"),
    ]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_can_be_read_by_name_and_by_its_table(name):
    assert view_from_json(parse_view(name).to_json()) == parse_view(name) == view_from_json({"name": name})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spiral", "unknown view 'spiral'; known: " + ", ".join(NAMES) + "; presets: genrep-gaussian, "),
        ("", "unknown view ''"),
        ("hl-random-bigbigan:std=1", "unknown view 'hl-random-bigbigan'"),
        ("uniform:radius=0", "radius=0.0, wanted a positive number"),
        ("uniform:radius=nan", "radius='nan' is not a number"),
        ("uniform:radius=inf", "radius=inf"),
        ("angular:std=-1", "std=-1.0"),
        ("angular:law=sphere", "law=sphere, wanted one of angle, sum"),
        ("steered", "needs walks=FILE"),
        ("navigator", "needs weights=FILE"),
        ("navigator:wieghts=x", "navigator has no parameter 'wieghts'; known: activation, chunks"),
        ("steered:walks=x,only=shift_z", "only=shift_z: wanted some of rotate_3d+"),
        ("steered:walks=x,only=zoom+zoom", "each once"),
        ("steered:walks=x,scale=inf", "scale=inf"),
        ("mix", "wanted at least one view"),
        ("mix:gaussian=0", "weight=0.0 of gaussian"),
        ("mix:gaussian=a", "gaussian='a' is not a number"),
        ("mix:spiral=1", "part 0: unknown view 'spiral'"),
        ("hierarchical", "no part has a view"),
        ("hierarchical:0=none", "no part has a view"),
        ("hierarchical:over=blocks,0=gaussian", "over='blocks', wanted one of chunks, layers"),
        ("hierarchical:0-2=gaussian,2=uniform", "chunks 0-2 and 2: wanted disjoint"),
        ("hierarchical:3-1=gaussian", "'3-1': wanted a number or a range"),
        ("hierarchical:x=gaussian", "'x': wanted a number or a range"),
        ("missing.toml", "views 'missing.toml': missing"),
    ],
)
def test_bad_strings_are_refused_in_one_line(text, message):
    with pytest.raises(RecipeError) as error:
        parse_view(text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "table",
    [
        None,
        [],
        {"name": 3},
        {"name": "gaussian", "std": "0.2"},
        {"name": "gaussian", "std": True},
        {"name": "gaussian", "std": 10**400},
        {"name": "gaussian", "std": float("nan")},
        {"name": "navigator", "weights": 3},
        {"name": "navigator", "digest": "00", "dim": 1.5},
        {"name": "navigator", "digest": "00", "dim": None},
        {"name": "mix", "parts": 3},
        {"name": "mix", "parts": [3]},
        {"name": "mix", "parts": [{"view": "gaussian"}]},
        {"name": "mix", "parts": [{"weight": 1}]},
        {"name": "mix", "parts": [{"weight": float("inf"), "view": "gaussian"}]},
        {"name": "mix", "parts": [{"weight": 1, "view": "gaussian", "more": 1}]},
        {"name": "hierarchical", "parts": []},
        {"name": "hierarchical", "over": ["chunks"], "parts": []},
        {"name": "hierarchical", "over": "chunks", "parts": [{"layers": "1", "view": "gaussian"}]},
        {"name": "hierarchical", "over": "chunks", "parts": [{"chunks": None, "view": "gaussian"}]},
        {"name": "hierarchical", "over": "chunks", "parts": [{"chunks": "٣", "view": "gaussian"}]},
    ],
)
def test_hostile_tables_are_refused_in_one_line(table):
    with pytest.raises(RecipeError) as error:
        view_from_json(table)
    assert "\n" not in str(error.value)


def test_views_nested_without_end_are_refused():
    table = {"name": "gaussian"}
    for _ in range(500):
        table = {"name": "mix", "parts": [{"weight": 1, "view": table}]}
    with pytest.raises(RecipeError, match="views nested more than"):
        view_from_json(table)


def test_a_damaged_toml_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "views.toml").write_bytes(b"[views\n\xff")
    with pytest.raises(GenRepError, match="not a TOML file"):
        parse_view(str(tmp_path / "views.toml"))


def test_infinity_is_null_in_json():
    view = parse_view("genrep-gaussian-car")
    assert np.isinf(view.truncation) and view.to_json() == {"name": "gaussian", "std": 0.25, "truncation": None}
