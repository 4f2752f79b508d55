"""A generator of one's own: the decoder of a small VAE.

    cd docs/examples
    python vae_decoder.py data/          # trains decoder.pt on Fashion-MNIST (below data/): two to three minutes of a core
    genrep-generate dataset --gen vae_decoder:Decoder --views gaussian:std=.5 --out shards

What genrep needs is the class at the top; the rest is the training of any VAE.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from genrep.generate import LatentSpec


class Decoder:
    """The ten lines: latents in, images out."""

    latent = LatentSpec(dim=16)  # z ~ N(0, 1), the VAE's prior
    num_classes = 0
    image_shape = (32, 32)

    def __init__(self, device="cpu", weights="decoder.pt"):
        self.network = decoder_network().to(device).eval().requires_grad_(False)
        self.network.load_state_dict(torch.load(weights, map_location=device, weights_only=True))

    def synthesize(self, z, y=None):
        return self.network(z).expand(-1, 3, -1, -1)  # gray to (B, 3, 32, 32), in [-1, 1]


def decoder_network():
    return nn.Sequential(
        nn.Linear(16, 64 * 8 * 8),
        nn.ReLU(),
        nn.Unflatten(1, (64, 8, 8)),
        nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def encoder_network():
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 8 * 8, 2 * 16),  # mean and log variance
    )


def train(images, steps=2000, batch_size=128, seed=0):
    """Fit encoder and decoder to images (N, 1, 32, 32) in [-1, 1]; returns the decoder."""
    torch.manual_seed(seed)
    encoder, decoder = encoder_network(), decoder_network()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    for _ in range(steps):
        x = images[torch.randint(len(images), (batch_size,))]
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        loss = F.mse_loss(decoder(z), x, reduction="sum") / batch_size + divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return decoder


if __name__ == "__main__":
    from torchvision.datasets import FashionMNIST

    data = FashionMNIST(Path(sys.argv[1]), train=True, download=True).data
    images = F.pad(data[:, None].float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
    torch.save(train(images).state_dict(), "decoder.pt")
