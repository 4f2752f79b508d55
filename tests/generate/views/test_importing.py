"""Released walks and navigators become safetensors, and nothing in them is executed."""

import numpy as np
import pytest
import torch
from torch import nn

from genrep.errors import WeightsError
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views import GeneratorFacts, parse_view
from genrep.generate.views.released import import_walk
from genrep.generate.views.walks import load_walks

from .conftest import draw


class NonlinearWalk(nn.Module):
    """As COP-Gen's: a module that its file names and that we do not have."""

    def __init__(self, *layers):
        super().__init__()
        self.walker = nn.Sequential(*layers)

    def forward(self, z):
        return self.walker(z)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    """Writes a torch file, in both of torch's formats."""

    def write(content):
        torch.save(content, tmp_path / "released.pth", _use_new_zipfile_serialization=request.param)
        return tmp_path / "released.pth"

    return write


@pytest.mark.parametrize("nonlinear", [True, False])
def test_a_pickled_navigator_moves_latents_as_it_did(save, tmp_path, nonlinear):
    layers = (
        [nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 6)] if nonlinear else [nn.Linear(6, 6), nn.Linear(6, 6)]
    )
    walker = NonlinearWalk(*layers)
    out = import_walk(save({"nn_walker": nn.DataParallel(walker)}), tmp_path / "navigator.safetensors")
    view, latent = parse_view(f"navigator:weights={out}"), LatentSpec(dim=6)
    view.check(latent, GeneratorFacts())
    assert view.to_json()["activation"] == ("relu" if nonlinear else "none")
    z = latent.sample(0, np.arange(16))
    with torch.no_grad():
        expected = z + walker(torch.from_numpy(z)).numpy()
    assert np.abs(view.transform(z, latent, draw(16)) - expected).max() < 1e-6


def test_a_state_dict_of_a_navigator_can_be_imported_for_its_chunks(save, tmp_path):
    walker = NonlinearWalk(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    out = import_walk(save({"model": walker.state_dict()}), tmp_path / "navigator.safetensors", chunks="1-2")
    view, latent = parse_view(f"navigator:weights={out}"), LatentSpec(dim=9, chunks=(3, 3, 3))
    z = latent.sample(0, np.arange(4))
    moved = view.transform(z, latent, draw(4))
    with torch.no_grad():
        expected = walker(torch.from_numpy(z[:, 3:])).numpy()
    assert np.array_equal(moved[:, :3], z[:, :3])
    assert np.abs(moved[:, 3:] - z[:, 3:] - expected).max() < 1e-6


@pytest.mark.parametrize("wrap", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "net.{}"])
def test_a_wrapped_navigator_is_the_same(save, tmp_path, wrap):
    state = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 6)).state_dict()
    inside = {name.replace(".", "._orig_mod."): tensor for name, tensor in state.items()}
    files = []
    for i, content in enumerate((state, {wrap.format(name): tensor for name, tensor in state.items()}, inside)):
        files.append(import_walk(save({"state_dict": content}), tmp_path / f"{i}.safetensors").read_bytes())
    assert files[0] == files[1] == files[2]


def test_genreps_composed_walks_become_ours(save, tmp_path):
    random = torch.Generator().manual_seed(0)
    walks = {name: torch.randn(1, 8, generator=random) for name in ("walk_rot3d", "walk_zoom", "walk_shiftx")}
    walks["walk_color"] = torch.randn(1, 8, 3, generator=random)
    found = load_walks(import_walk(save(walks), tmp_path / "walks.safetensors")).walks
    assert sorted(found) == ["color", "rotate_3d", "shift_x", "zoom"]
    assert np.array_equal(found["shift_x"][:, 0], walks["walk_shiftx"][0])
    assert np.array_equal(found["color"], walks["walk_color"][0])


def test_walks_are_not_for_some_chunks(save, tmp_path):
    path = save({"walk_jit": torch.zeros(1, 3, 4)})
    with pytest.raises(WeightsError, match="holds walks, which move the whole latent"):
        import_walk(path, tmp_path / "out.safetensors", chunks="1-2")


def test_genreps_released_walk_gives_what_was_fitted_of_it(save, tmp_path):
    jitter = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0))
    content = {"walk_jit": jitter.requires_grad_(), "walk_rrc": nn.Sequential(nn.Linear(12, 12), nn.ReLU())}
    out = import_walk(save(content), tmp_path / "walks.safetensors")
    found = load_walks(out).walks
    assert sorted(found) == ["brightness", "hue"]
    assert np.abs(found["brightness"][:, 0] - jitter.detach()[0, :, :3].sum(1).numpy()).max() < 1e-6
    assert np.array_equal(found["hue"][:, 0], jitter.detach()[0, :, 3])
    z, latent = np.zeros((2000, 8), dtype=np.float32), LatentSpec(dim=8)
    hue = parse_view(f"steered:walks={out},only=hue").transform(z, latent, draw(2000)) / found["hue"].T
    brightness = parse_view(f"steered:walks={out},only=brightness").transform(z, latent, draw(2000))
    factor = np.exp(brightness / found["brightness"].T)
    assert -0.1001 < hue.min() < -0.099 and 0.099 < hue.max() < 0.1001
    assert 0.5999 < factor.min() < 0.602 and 1.398 < factor.max() < 1.4001


class Hostile:
    """Would write a file if anything called what the pickle names."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_hostile_file_is_executed(save, tmp_path):
    mark = tmp_path / "executed"
    with pytest.raises(WeightsError) as error:
        import_walk(save({"nn_walker": Hostile(mark)}), tmp_path / "out.safetensors")
    assert not mark.exists() and not (tmp_path / "out.safetensors").exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"walk_jit": torch.zeros(8, 4)}, "walk_jit has shape (8, 4), wanted (1, d, 4)"),
        ({"walk_zoom": torch.zeros(8)}, "zoom has shape (8,), wanted (1, d)"),
        ({"walk_zoom": "far"}, "zoom is not an array of finite numbers"),
        ({"walk_zoom": torch.full((1, 8), torch.nan)}, "zoom is not an array of finite numbers"),
        ({}, "neither walks nor linear layers"),
        (torch.zeros(3), "wanted the weights and biases of one chain"),
        ({"w": nn.Sequential(nn.Linear(4, 4), nn.Tanh())}, "holds a module Tanh"),
        ({"0.weight\x1b[2J": torch.zeros(4, 4)}, r"tensor '0.weight\x1b[2J': wanted"),
        ({"w": nn.Sequential(nn.Linear(4, 5))}, "neither walks nor linear layers from F values to F values"),
        ({"w": nn.Sequential(nn.Linear(4, 4, bias=False))}, "neither walks nor linear layers"),
        ({"w": nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(6, 4))}, "size mismatch"),
        ({"a": nn.Sequential(nn.Linear(4, 4)), "b": nn.Sequential(nn.Linear(4, 4))}, "one chain"),
    ],
)
def test_files_that_hold_neither_are_refused_in_one_line(content, message, tmp_path):
    torch.save(content, tmp_path / "released.pth")
    with pytest.raises(WeightsError) as error:
        import_walk(tmp_path / "released.pth", tmp_path / "out.safetensors")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()
