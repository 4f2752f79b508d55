"""How far learned walks go (measure-delta), and whether they are harder than random ones as long (compare)."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from genrep.errors import WeightsError
from genrep.generate.fits.config import POLICIES, CompareConfig, DeltaConfig
from genrep.generate.fits.navigator import fit_navigator
from genrep.generate.fits.navigator_measure import Moments, compare_run, compare_walks, measure_delta, random_shift
from genrep.generate.fits.navigator_scope import PixelPolicy, make_scope
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views.navigators import Walk, WalkFacts, load_walk, new_walk, save_walk

LATENT = LatentSpec(dim=9, chunks=(2, 3, 4), law="truncated_normal", truncation=2.0)


def saved(folder, name, walk, **facts):
    path = folder / f"{name}.safetensors"
    save_walk(path, walk, WalkFacts(**{"latent": LATENT, "samples": 10, "loss_f": 1.5, **facts}))
    return path


def measured(folder, *paths, **changes):
    settings = {"walks": paths, "out": folder / "delta.json", "anchors": 500, "batch_size": 64, "device": "cpu"}
    return measure_delta(DeltaConfig(**{**settings, **changes}))


def test_moments_are_those_of_all_rows_at_once():
    rows = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 0.01 + torch.tensor([1000.0, 0, -5])
    moments = Moments(3, torch.device("cpu"))
    for part in rows.split([1, 400, 99, 500]):
        moments.add(part)
    table = rows.double().numpy()
    for column, found in zip(table.T, moments.to_json()):
        wanted = {"mean": column.mean(), "std": column.std(), "min": column.min(), "max": column.max()}
        assert found == pytest.approx(wanted, rel=1e-9)


def test_delta_is_the_length_of_the_shift_whole_and_per_chunk(tmp_path):
    everywhere = new_walk(9, walk="mlp", seed=0, max_distance=0.7)
    later = new_walk(7, walk="linear", seed=1)
    paths = [saved(tmp_path, "all", everywhere), saved(tmp_path, "later", later, chunks="1-2")]
    result = measured(tmp_path, *paths)
    z = torch.from_numpy(LATENT.sample(0, np.arange(500)))
    with torch.no_grad():
        shifts = [everywhere(z).double(), later(z[:, 2:]).double()]
    edges = [[(0, 0, 2), (1, 2, 5), (2, 5, 9)], [(1, 0, 3), (2, 3, 7)]]
    for row, shift, parts in zip(result["rows"], shifts, edges):
        delta = shift.norm(dim=1)
        assert row["delta"]["mean"] == pytest.approx(float(delta.mean()), rel=1e-5)
        assert row["delta"]["std"] == pytest.approx(float(delta.std(correction=0)), rel=1e-4)
        assert [part["chunk"] for part in row["delta_per_chunk"]] == [number for number, _, _ in parts]
        for part, (_, start, stop) in zip(row["delta_per_chunk"], parts):
            assert part["mean"] == pytest.approx(float(shift[:, start:stop].norm(dim=1).mean()), rel=1e-5)
    assert result["rows"][0]["delta"]["max"] <= 0.7
    assert (result["rows"][1]["samples"], result["rows"][1]["loss_f"]) == (10, 1.5)
    assert json.loads((tmp_path / "delta.json").read_text()) == result
    with Image.open(tmp_path / "delta.png") as plot:
        assert plot.size[1] > 7 * 20  # a bar for each walk and chunk


def test_delta_does_not_depend_on_the_batch_but_on_the_seed(tmp_path):
    path = saved(tmp_path, "walk", new_walk(9, walk="mlp", seed=0))
    one, other = (measured(tmp_path, path, batch_size=size)["rows"][0]["delta"] for size in (7, 500))
    assert one == pytest.approx(other, rel=1e-6)
    assert measured(tmp_path, path, seed=1)["rows"][0]["delta"]["mean"] != pytest.approx(one["mean"], rel=1e-6)


def test_a_walk_whose_latents_are_unknown_needs_a_generator(tmp_path, waves_folder):
    path = saved(tmp_path, "walk", new_walk(6, walk="mlp", seed=0), latent=None)
    with pytest.raises(WeightsError, match=r"does not state the latents that it was trained on; give gen"):
        measured(tmp_path, path)
    assert measured(tmp_path, path, gen="wavegen:plain")["rows"][0]["latent"]["truncation"] == 2.0
    wide = saved(tmp_path, "wide", new_walk(9, walk="mlp", seed=0))
    with pytest.raises(WeightsError, match=r"moves 9 components, the latent has 6 there"):
        measured(tmp_path, wide, gen="wavegen:plain")


def test_random_walks_are_as_long_as_the_learned_and_point_everywhere():
    like = torch.rand(4000, 3) * torch.tensor([1.0, 2.0, 3.0])
    shift = random_shift(like, 0, np.arange(4000))
    assert torch.allclose(shift.norm(dim=1), like.norm(dim=1), rtol=1e-5)
    directions = F.normalize(shift, dim=1)
    assert directions.mean(dim=0).abs().max() < 0.05
    assert (directions.square().mean(dim=0) - 1 / 3).abs().max() < 0.03


def test_a_walk_across_what_the_estimator_sees_is_harder_than_random_ones(painter):
    """The painter's images depend on three of 24 components: a walk along these changes them more."""
    bias = torch.zeros(24)
    bias[0] = 2.0
    walk = Walk((24, 24), activation="none")
    walk.load_state_dict({"layers.0.weight": torch.zeros(24, 24), "layers.0.bias": bias})
    policy = PixelPolicy(views=POLICIES["none"], size=4, seed=0)
    found = compare_walks(
        painter,
        make_scope(painter, None, None),
        walk,
        lambda images: F.normalize(images.mean(dim=(2, 3)), dim=1),
        policy,
        batches=6,
        batch_size=16,
        temperature=0.1,
        seed=0,
    )
    assert found["distance"] == pytest.approx(2.0, rel=1e-4)
    assert found["difference"] == pytest.approx(found["walk"] - found["random"])
    assert found["difference"] > 5 * found["difference_se"] > 0


@pytest.mark.slow
def test_a_finished_run_is_compared_under_its_own_resnet(config):
    settings = config(samples=8, gen="wavegen:conditional", supervised=True, walk="linear", chunks="1-2")
    assert load_walk(fit_navigator(settings).path).walk.activation == "none"
    found = compare_run(CompareConfig(run=settings.out, batches=2, batch_size=8, device="cpu"))
    again = compare_run(
        CompareConfig(
            run=settings.out, walk=settings.out / "navigator.safetensors", batches=2, batch_size=8, device="cpu"
        )
    )
    assert found == again
    assert 0 < found["walk"] < 2 * found["chance"]
    with pytest.raises(WeightsError, match=r"not the folder of a run of fit-navigator"):
        compare_run(CompareConfig(run=settings.out / "walks", device="cpu"))
