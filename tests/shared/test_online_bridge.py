"""What training sees of a generator: found at run time, behind interfaces of its own."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from genrep.across import open_decoder, open_online
from genrep.errors import TrainingError
from genrep.generate import BuildConfig, build_dataset
from genrep.train import PairLoader
from genrep.train.data.online import OnlineLoader
from genrep.train.objectives.base import Setup
from genrep.train.objectives.inverter import Autoencoder


@pytest.mark.slow
def test_importing_the_bridge_and_the_loader_imports_no_generator():
    code = (
        "import sys, genrep.across; assert 'torch' not in sys.modules; import genrep.train.data.online; "
        "assert not [name for name in sys.modules if name.startswith('genrep.generate')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("online") / "shards"
    build_dataset(BuildConfig(out=out, num_pairs=16, num_positives=2, seed=6, batch_size=16, processes=1, device="cpu"))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("positive", [None, "stored", "all", "anchor"])
def test_batches_have_the_form_and_content_of_the_pair_loaders(shards, positive):
    source = open_online("stylegan2_fashion", seed=6, num_positives=2)
    made = next(iter(OnlineLoader(source, batch_size=16, steps_per_epoch=1, positive=positive)))
    read = next(iter(PairLoader(shards, batch_size=16, positive=positive)))
    order = torch.argsort(read["index"])
    assert list(made) == list(read)
    for name, values in read.items():
        assert made[name].dtype == values.dtype
        assert torch.equal(made[name], values[order]), name


def setup(decode, encoder):
    return Setup(encoder=encoder, width=16, seed=0, latent_shape=(128,), labels=(0, 1), decode=decode)


def test_an_autoencoder_learns_through_the_generator():
    source, decode = open_online("stylegan2_fashion_cond", seed=1), open_decoder("stylegan2_fashion_cond")
    generator = torch.Generator().manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.Tanh())
    objective = Autoencoder(setup(decode, encoder), latent_weight=0.0)
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *objective.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    batch = next(iter(OnlineLoader(source, batch_size=8, steps_per_epoch=1, fields=objective.fields)))
    images = batch["anchor"].permute(0, 3, 1, 2) / 127.5 - 1
    optimiser = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=0.01)
    losses = []
    for _ in range(15):
        loss = objective.loss(encoder, images, batch, 0).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_stored_latent_decodes_to_the_stored_image():
    source, decode = open_online("stylegan2_fashion_cond", seed=1), open_decoder("stylegan2_fashion_cond")
    batch = next(iter(OnlineLoader(source, batch_size=8, steps_per_epoch=1)))
    with torch.no_grad():
        images = decode(batch["z_anchor"], batch["label"])
    levels = batch["anchor"].permute(0, 3, 1, 2) / 127.5 - 1
    assert float((images.clamp(-1, 1) - levels).abs().max()) <= 1.1 / 127.5


def test_a_generator_of_another_size_is_refused_by_the_objective():
    decode, encoder = open_decoder("stylegan2_fashion"), nn.Sequential(nn.Flatten(), nn.Linear(192, 16))
    batch = {"anchor": torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "z_anchor": torch.zeros(2, 128)}
    with pytest.raises(TrainingError, match=r"^gen: its images are 3x32x32, but the dataset's are 3x8x8"):
        Autoencoder(setup(decode, encoder)).loss(encoder, torch.zeros(2, 3, 8, 8), batch, 0)
