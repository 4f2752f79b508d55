"""IC-GAN with a BigGAN backbone: against the original's images, its equations, and the ways in which features come."""

from pathlib import Path

import numpy as np
import plain_biggan as plain
import pytest
import torch
from safetensors.torch import save_file

from genrep.errors import DataError, GeneratorError, WeightsError
from genrep.generate.generators.base import checkpoint_from_safetensors, save_checkpoint
from genrep.generate.generators.biggan import family, icgan
from genrep.generate.generators.instance_features import load_features
from genrep.unpickle import read_file

CASE = Path(__file__).parent.parent / "goldens" / "icgan64"
TOLERANCE = 1e-4
NOWHERE = Path("G_ema.pth")


def largest_difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_rows(*shape, seed=1):
    return torch.nn.functional.normalize(noise(*shape, seed=seed))


@pytest.fixture(scope="module")
def golden():
    return torch.load(CASE / "golden.pt", weights_only=True)


@pytest.fixture(scope="module")
def checkpoint():
    path = icgan.find(CASE)
    assert path.name == "G_ema_best0.pth"
    return icgan.recognise(read_file(path), path, named=False)


def test_the_images_of_the_original_are_reproduced(golden, checkpoint):
    generator = icgan.open_checkpoint(checkpoint, features=golden["feats"])
    assert (generator.num_classes, generator.image_shape) == (3, (64, 64))
    assert (generator.latent.dim, generator.latent.chunks) == (40, (8,) * 5)
    rows = torch.arange(3)
    assert largest_difference(generator.synthesize(golden["z"], rows), golden["img"]) <= TOLERANCE
    assert largest_difference(generator.synthesize(golden["z_with_tail"], rows), golden["img"]) <= TOLERANCE
    explicit = generator.synthesize_conditioned(golden["z"], golden["feats"])
    assert largest_difference(explicit, golden["img"]) <= TOLERANCE


def test_y_picks_the_row_of_the_features(golden, checkpoint):
    generator = icgan.open_checkpoint(checkpoint, features=golden["feats"].flip(0))
    images = generator.synthesize(golden["z"], torch.tensor([2, 1, 0]))
    assert largest_difference(images, golden["img"]) <= TOLERANCE
    assert largest_difference(generator.synthesize(golden["z"], torch.eye(3).flip(0)), golden["img"]) <= TOLERANCE


def test_rows_are_normalised_when_they_are_loaded(golden, checkpoint):
    scaled = golden["feats"] * torch.tensor([[3.0], [0.01], [1.0]])
    generator = icgan.open_checkpoint(checkpoint, features=scaled)
    assert largest_difference(generator.synthesize(golden["z"], torch.arange(3)), golden["img"]) <= TOLERANCE
    assert largest_difference(load_features(golden["feats"]).features, golden["feats"]) <= 1e-8


SIZES = {"feature_dim": 11, "feature_width": 6, "channels": (16, 8, 8), "attention": (1,)}


@pytest.mark.parametrize(
    "options",
    [
        {"use_classes": False},
        {},
        {"hierarchical": False, "use_classes": False},
        {"hierarchical": False},
        {"norm": "sync-affine"},
        {"norm": "mybn", "chunk": 5},
        {
            "class_width": 3,
            "use_classes": False,
        },  # as wide as a chunk: both readings fit, the hierarchical one is meant
    ],
)
def test_conditions_are_the_class_then_the_instance_then_the_chunk(options):
    state = plain.random_state(**SIZES, **options)
    features, labels, z = unit_rows(4, 11), torch.tensor([4, 0, 2, 2]), noise(3, 17)
    generator = icgan.open_checkpoint(
        icgan.recognise(state, NOWHERE, named=False), features={"features": features, "labels": labels}
    )
    z, rows = z[:, : generator.latent.dim], torch.tensor([3, 0, 1])
    condition = plain.embedded_features(state, features[rows])
    if options.get("use_classes", True):
        condition = torch.cat([state["shared.weight"][labels[rows]].double(), condition], dim=1)
    expected = plain.plain_images(state, z, condition)
    assert expected.std() > 0.1
    assert largest_difference(generator.synthesize(z, rows), expected) <= 2e-5
    explicit = generator.synthesize_conditioned(z, features[rows], labels[rows])
    assert largest_difference(explicit, expected) <= 2e-5


def test_the_state_beside_the_weights_settles_what_the_widths_leave_open(tmp_path):
    state = plain.random_state(**SIZES, hierarchical=False, class_width=3)  # chunk and class embedding: 3 each
    torch.save(state, tmp_path / "G_ema_best0.pth")
    torch.save(
        {"config": {"hier": False, "class_cond": True, "instance_cond": True}}, tmp_path / "state_dict_best0.pth"
    )
    path = icgan.find(tmp_path)
    checkpoint = icgan.recognise(read_file(path), path, named=True)
    save_checkpoint(checkpoint, tmp_path / "converted.safetensors")
    for found in (checkpoint, checkpoint_from_safetensors(tmp_path / "converted.safetensors")):
        features, labels, z = unit_rows(2, 11), torch.tensor([4, 1]), noise(2, 3)
        generator = icgan.open_checkpoint(found, features={"features": features, "labels": labels})
        condition = torch.cat([state["shared.weight"][labels].double(), plain.embedded_features(state, features)], 1)
        images = generator.synthesize(z, torch.arange(2))
        assert largest_difference(images, plain.plain_images(state, z, condition)) <= 2e-5


def test_a_biggan_trained_with_the_same_code_is_a_biggan():
    state = plain.random_state(feature_dim=11)  # shared_feat is saved though no block takes it
    assert icgan.recognise(state, NOWHERE, named=False) is None
    generator = family.open_checkpoint(family.recognise(state, NOWHERE, named=False))
    z, y = noise(2, 12), torch.tensor([1, 3])
    assert (
        largest_difference(generator.synthesize(z, y), plain.plain_images(state, z, state["shared.weight"][y])) <= 2e-5
    )


def test_the_lower_fid_decides_between_two_snapshots(tmp_path):
    folder = tmp_path / "icgan_biggan_imagenet_res256"
    folder.mkdir()
    for name, fid in (("best0", 15.6), ("best1", 15.4)):
        (folder / f"G_ema_{name}.pth").write_bytes(b"")
        torch.save({"best_FID": fid, "config": {"G_activation": torch.nn.ReLU()}}, folder / f"state_dict_{name}.pth")
    assert icgan.find(tmp_path).name == "G_ema_best1.pth"


def test_without_features_it_opens_but_asks_for_them(checkpoint):
    generator = icgan.open_checkpoint(checkpoint)
    assert (generator.num_classes, generator.instances, generator.needs_instances) == (0, None, True)
    with pytest.raises(GeneratorError, match="features FILE"):
        generator.synthesize(torch.zeros(1, 40), torch.tensor([0]))


def test_images_do_not_depend_on_how_a_batch_is_split(checkpoint):
    generator = icgan.open_checkpoint(checkpoint, features=unit_rows(5, 2048))
    z, y = noise(5, 40), torch.arange(5)
    parts = torch.cat([generator.synthesize(z[:2], y[:2]), generator.synthesize(z[2:], y[2:])])
    assert largest_difference(generator.synthesize(z, y), parts) <= 1e-5


def test_the_network_is_frozen_yet_differentiable_in_z(checkpoint):
    generator = icgan.open_checkpoint(checkpoint, features=unit_rows(2, 2048))
    z = noise(1, 40).requires_grad_()
    generator.synthesize(z, torch.tensor([1])).square().sum().backward()
    assert not any(parameter.requires_grad for parameter in generator.network.parameters())
    assert all(float(chunk.abs().sum()) > 0 for chunk in z.grad.split(8, dim=1))


def test_features_of_another_width_or_without_the_labels_they_need_are_refused(checkpoint):
    with pytest.raises(GeneratorError, match=r"features have shape \(3, 9\), wanted \(N, 2048\)"):
        icgan.open_checkpoint(checkpoint, features=unit_rows(3, 9))
    by_class = icgan.recognise(plain.random_state(**SIZES), NOWHERE, named=True)
    with pytest.raises(GeneratorError, match="the features need labels"):
        icgan.open_checkpoint(by_class, features=unit_rows(3, 11))
    with pytest.raises(GeneratorError, match="y is 0 to 5, wanted classes from 0 to 4"):
        icgan.open_checkpoint(by_class, features={"features": unit_rows(2, 11), "labels": [0, 5]})
    generator = icgan.open_checkpoint(checkpoint, features=unit_rows(3, 2048))
    with pytest.raises(GeneratorError, match="y is 3 to 3, wanted rows of the features from 0 to 2"):
        generator.synthesize(torch.zeros(1, 40), torch.tensor([3]))
    with pytest.raises(GeneratorError, match="synthesize needs y"):
        generator.synthesize(torch.zeros(1, 40))


def test_damaged_weights_are_refused_with_the_name_of_the_file():
    state = plain.random_state(**SIZES)
    del state["shared_feat.bias"]
    with pytest.raises(WeightsError, match=r"run/G_ema\.pth: shared_feat\.bias is missing"):
        icgan.recognise(state, Path("run/G_ema.pth"), named=False)


def write_npz(path, features, labels):
    np.savez(path, features=features, labels=labels)


def write_safetensors(path, features, labels):
    save_file({"features": torch.from_numpy(features), "labels": torch.from_numpy(labels)}, path)


def write_torch(path, features, labels):
    torch.save({"instance_features": torch.from_numpy(features), "labels": labels}, path)


@pytest.mark.parametrize(
    ("suffix", "write"), [(".npz", write_npz), (".safetensors", write_safetensors), (".pt", write_torch)]
)
def test_features_and_labels_come_from_a_file(tmp_path, suffix, write):
    features, labels = noise(4, 6).numpy().astype(np.float64), np.array([3, 0, 1, 1])
    write(tmp_path / f"rows{suffix}", features, labels)
    found = load_features(str(tmp_path / f"rows{suffix}"))
    assert found.features.dtype == torch.float32
    assert largest_difference(found.features, torch.nn.functional.normalize(torch.from_numpy(features).float())) <= 1e-6
    assert found.labels.tolist() == [3, 0, 1, 1]


def test_an_array_alone_has_no_labels(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(3, 5, dtype=np.float16))
    for source in (tmp_path / "rows.npy", np.eye(3, 5), torch.eye(3, 5), torch.eye(3, 5).tolist()):
        found = load_features(source)
        assert found.labels is None
        assert found.features.tolist() == torch.eye(3, 5).tolist()
    assert load_features(found) is found


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), r"features: row 1 has norm 0\.0, wanted a finite one above 0"),
        (torch.tensor([[1.0, float("nan")]]), "row 0 has norm nan"),
        (torch.tensor([[1.0, float("inf")]]), "row 0 has norm inf"),
        (torch.ones(3), r"have shape \(3,\), wanted \(rows, dimensions\)"),
        (torch.ones(0, 3), r"have shape \(0, 3\)"),
        (np.array([["a"]]), "not an array of numbers"),
        ([[1.0], [1.0, 2.0]], "not an array of numbers"),
        ({"rows": torch.ones(1, 1)}, "holds rows, wanted features"),
        ({"features": torch.ones(2, 2), "labels": [1]}, r"labels have shape \(1,\), wanted \(2,\)"),
        ({"features": torch.ones(2, 2), "labels": [1, -1]}, "labels are not class indices"),
        ({"features": torch.ones(2, 2), "labels": [1.5, 1]}, "labels are not class indices"),
    ],
)
def test_what_cannot_be_features_is_refused_in_one_line(source, message):
    with pytest.raises(DataError, match=message) as raised:
        load_features(source)
    assert "\n" not in str(raised.value)


def test_files_that_hold_no_features_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"rows\.npy: no such file"):
        load_features(tmp_path / "rows.npy")
    with pytest.raises(DataError, match=r"rows\.csv: wanted a file that ends in \.npy"):
        load_features(tmp_path / "rows.csv")
    for suffix in (".npy", ".npz", ".safetensors", ".pt"):
        (tmp_path / f"rows{suffix}").write_bytes(b"no features")
        with pytest.raises(DataError, match=rf"rows\{suffix}: cannot be read"):
            load_features(tmp_path / f"rows{suffix}")
    np.savez(tmp_path / "other.npz", rows=np.eye(2))
    with pytest.raises(DataError, match=r"other\.npz: holds rows, wanted features"):
        load_features(tmp_path / "other.npz")


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_arrays_of_objects_run_no_code(tmp_path, capsys):
    np.save(tmp_path / "trap.npy", np.array(Trap(), dtype=object), allow_pickle=True)
    np.savez(tmp_path / "trap.npz", features=np.array([Trap()], dtype=object))
    for suffix in (".npy", ".npz"):
        with pytest.raises(DataError, match=r"features .*trap"):
            load_features(tmp_path / f"trap{suffix}")
    assert capsys.readouterr().out == ""


def test_features_as_icgan_publishes_them_are_read_without_running_what_they_name(tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    path = tmp_path / "instance_features.npy"
    np.save(path, {"instance_features": rows, "labels": np.arange(5)}, allow_pickle=True)
    loaded = load_features(path)
    assert np.allclose(loaded.features.numpy(), rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)
    assert loaded.labels.tolist() == [0, 1, 2, 3, 4]
    assert loaded.digest() == load_features({"features": rows, "labels": np.arange(5)}).digest()
    assert loaded.digest() != load_features(rows).digest()
