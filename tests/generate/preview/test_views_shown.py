"""What is shown: the latents and pixels of a dataset, parts of them alone, and chosen distances."""

import numpy as np
import pytest
import torch

from genrep import datasets_manifest
from genrep.generate import BuildConfig, build_dataset, load_generator
from genrep.generate.pixels import to_uint8
from genrep.generate.views import Draw, parse_view
from genrep.generate.views.navigators import Walk, WalkFacts, save_walk

LAYERS = "hierarchical:over=layers,0-1=genrep-gaussian-conditional,6=gaussian"


def tile(preview, place, factor):
    top, left = place
    height, width = preview.layout.tile
    return preview.sheet[top : top + height : factor, left : left + width : factor]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gen", "views", "count"),
    [
        ("bandgen:conditional", "independent", 20),
        ("bandgen:bands", "hierarchical:1-2=gaussian", 5),
        ("stylegan2_fashion", LAYERS, 4),
        ("stylegan2_fashion_cond", "gaussian:std=1", 4),
    ],
)
def test_a_preview_shows_what_a_dataset_holds(preview, gens, gen, views, count):
    settings = {"gen": gen, "views": views, "num_positives": 2, "seed": 7, "device": "cpu"}
    build_dataset(BuildConfig(out=gens / "out", num_pairs=count, processes=1, encoding="raw", **settings))
    dataset = datasets_manifest.open(gens / "out")
    settings.pop("views")
    found = preview(views, **settings, num_anchors=count)
    (shown,) = found.shown
    factor = found.layout.tile[0] // dataset[0]["anchor"].shape[0]
    for i in range(count):
        pair = dataset[i]
        assert np.array_equal(found.anchors[i], pair["z_anchor"])
        pictures = [(found.layout.anchor_places(i)[0], pair["anchor"])]
        for k, name in enumerate(("positive", "positive_1")):
            assert np.array_equal(shown.z[i, k], pair[f"z_{name}"])
            pictures.append((found.layout.place(0, k, i), pair[name]))
        for place, stored in pictures:
            # Another batch: a level apart at most, which is within what "same bytes" allows.
            assert np.abs(tile(found, place, factor).astype(int) - stored).max() <= 1


def test_distances_are_euclidean(preview):
    found = preview("gaussian:std=2", num_positives=4)
    (shown,) = found.shown
    for row in range(3):
        for k in range(4):
            expected = sum((float(a) - float(b)) ** 2 for a, b in zip(shown.z[row, k], found.anchors[row])) ** 0.5
            assert abs(shown.distances[row, k] - expected) < 1e-12


def test_the_distance_on_groups_of_layers_is_that_of_all_of_them(preview):
    found = preview(LAYERS, gen="stylegan2_fashion", num_anchors=2)
    (shown,) = found.shown
    assert shown.z.shape == (2, 2, 2, 128)
    each = [np.linalg.norm(shown.z[:, :, g].astype(float) - found.anchors[:, None], axis=2) for g in range(2)]
    assert np.allclose(shown.distances, np.hypot(*each), rtol=1e-12)


@pytest.mark.parametrize("views", [(), ("gaussian",), ("hierarchical:1=gaussian", "independent")])
def test_distances_are_walked_along_one_direction(preview, views):
    wanted = (0.5, 1.0, 2.0, 4.0)
    found = preview(*views, gen="bandgen:conditional", distances=wanted)
    assert len(found.shown) == max(1, len(views))
    for text, shown in zip(views or [None], found.shown):
        assert shown.z.shape == (3, 4, 6)
        assert np.allclose(shown.distances, [wanted] * 3, rtol=1e-6)
        unit = (shown.z - found.anchors[:, None]) / shown.distances[..., None]
        assert np.abs(unit - unit[:, :1]).max() < 1e-5
        assert np.abs(unit[0, 0] - unit[1, 0]).max() > 0.1  # each anchor has its own
        if text is not None:
            view, latent = parse_view(text), load_generator("bandgen:conditional").latent
            own = view.transform(found.anchors, latent, Draw(seed=0, indices=np.arange(3))) - found.anchors
            assert np.abs(unit[:, 0] - own / np.linalg.norm(own, axis=1, keepdims=True)).max() < 1e-5


def test_another_seed_walks_in_another_direction(preview):
    directions = []
    for seed in (0, 0, 1):
        found = preview(distances=(1.0,), seed=seed)
        directions.append(found.shown[0].z[:, 0] - found.anchors)
    assert np.array_equal(directions[0], directions[1])
    assert np.abs(directions[0] - directions[2]).max() > 0.1


def test_random_directions_are_uniform_on_the_sphere(preview):
    found = preview(distances=(1.0,), num_anchors=64)
    unit = found.shown[0].z[:, 0] - found.anchors
    assert np.abs(unit.mean(axis=0)).max() < 4 * (1 / 6 / 64) ** 0.5
    assert abs((unit**2).mean() - 1 / 6) < 1e-6


def test_chunks_each_moves_one_chunk_at_a_time(preview):
    found = preview("gaussian:std=1", chunks="each")
    assert [shown.panel.part for shown in found.shown] == [("chunk 0",), ("chunk 1",), ("chunk 2",)]
    for chunk, shown in enumerate(found.shown):
        moved = shown.z != found.anchors[:, None]
        assert moved[..., 2 * chunk : 2 * chunk + 2].all() and moved.sum() == 3 * 2 * 2
        for row in range(3):
            anchor = tile(found, found.layout.anchor_places(row)[chunk // 3], 16)
            positive = tile(found, found.layout.place(chunk, 0, row), 16)
            differs = (anchor != positive).any(axis=(1, 2))
            assert differs.reshape(3, 2).all(axis=1).tolist() == [other == chunk for other in range(3)]
            assert not np.delete(differs.reshape(3, 2), chunk, axis=0).any()


def test_chunks_each_on_stylegan2_replaces_w_in_one_group_of_layers_at_a_time(preview):
    found = preview("gaussian:std=1", gen="stylegan2_fashion", chunks="each", num_anchors=2, num_positives=1)
    assert [shown.panel.part for shown in found.shown] == [(f"layers {i}-{i + 1}",) for i in (0, 2, 4, 6)]
    generator = load_generator("stylegan2_fashion")
    for panel, shown in enumerate(found.shown):
        assert shown.z.shape == (2, 1, 1, 128)
        with torch.no_grad():
            ws, other = (
                generator.broadcast(generator.mapping(torch.from_numpy(z), None)).clone()
                for z in (found.anchors, shown.z[:, 0, 0])
            )
            ws[:, 2 * panel : 2 * panel + 2] = other[:, 2 * panel : 2 * panel + 2]
            expected = to_uint8(generator.synthesize_w(ws), "127.5x+128").numpy()
        for row in range(2):
            image = tile(found, found.layout.place(panel, 0, row), 3)
            assert np.abs(image.astype(int) - expected[row]).max() <= 1


def test_a_hierarchical_views_own_parts_are_shown_alone_as_they_draw_together(preview):
    (whole,) = preview("hierarchical:0=gaussian,1=none,2=uniform").shown
    alone = preview("hierarchical:0=gaussian,1=none,2=uniform", chunks="each")
    assert [shown.panel.part for shown in alone.shown] == [
        ("chunk 0", "gaussian:std=0.2,truncation=2"),
        ("chunk 2", "uniform:radius=0.3464"),
    ]
    for chunk, shown in zip((0, 2), alone.shown):
        expected = np.repeat(alone.anchors[:, None], 2, axis=1)
        expected[..., 2 * chunk : 2 * chunk + 2] = whole.z[..., 2 * chunk : 2 * chunk + 2]
        assert np.array_equal(shown.z, expected)


def test_one_chunk_can_be_walked_alone_to_chosen_distances(preview):
    found = preview(chunks="each", distances=(1.0, 3.0))
    assert len(found.shown) == 3
    for chunk, shown in enumerate(found.shown):
        assert np.allclose(shown.distances, [[1, 3]] * 3, rtol=1e-6)
        assert not np.delete(shown.z != found.anchors[:, None], (2 * chunk, 2 * chunk + 1), axis=2).any()


def test_a_navigator_of_layers_is_shown_and_walked_along(preview, gens):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_walk(gens / "nav.safetensors", Walk((128, 8, 128), activation="relu"), WalkFacts(layers="0-3"))
    found = preview("navigator:weights=nav.safetensors", gen="stylegan2_fashion")
    (shown,) = found.shown
    assert shown.z.shape == (3, 2, 1, 128) and (shown.distances > 0.01).all()
    assert np.array_equal(shown.z[:, 0], shown.z[:, 1])  # it draws nothing
    (far,) = preview("navigator:weights=nav.safetensors", gen="stylegan2_fashion", distances=(8.0,)).shown
    own = shown.z[:, 0, 0] - found.anchors
    expected = found.anchors + 8 * own / np.linalg.norm(own, axis=1, keepdims=True)
    assert np.abs(far.z[:, 0, 0] - expected).max() < 1e-4


def test_several_views_are_of_the_same_anchors(preview):
    together = preview("gaussian", "uniform")
    for text, shown in zip(("gaussian", "uniform"), together.shown):
        alone = preview(text)
        assert np.array_equal(alone.anchors, together.anchors)
        assert np.array_equal(alone.shown[0].z, shown.z)


def titles(preview):
    return [shown.panel.title for shown in preview.shown]


def test_without_views_the_recipes_own_is_shown(preview):
    assert titles(preview()) == ["gaussian:std=0.2,truncation=2"]


def test_compare_adds_the_views_that_the_generator_admits(preview):
    plain = ["genrep-gaussian-conditional", "uniform", "angular"]
    assert titles(preview(compare=True)) == ["gaussian:std=0.2,truncation=2", *plain]
    conditional = preview("uniform:radius=2", gen="bandgen:conditional", compare=True)
    assert titles(conditional) == ["uniform:radius=2", "genrep-gaussian", *plain, "independent"]


def test_long_paths_of_learned_views_are_cut_down(preview, gens):
    path = gens / "runs" / "first" / "navigator.safetensors"
    path.parent.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_walk(path, Walk((6, 6), activation="none"), WalkFacts())
    assert titles(preview(f"navigator:weights={path}")) == ["navigator:weights=first/navigator.safetensors"]


def test_the_callers_random_state_is_left_as_it_was(preview):
    before = torch.random.get_rng_state()
    preview("gaussian")
    assert torch.equal(before, torch.random.get_rng_state())
