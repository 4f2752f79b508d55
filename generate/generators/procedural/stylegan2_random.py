"""A StyleGAN2 that was never trained (Baradad et al. 2021, section 3.4): all weights are drawn from the option ``seed``.

As in the paper there is no mapping network: every layer has a w of its own, the latent's numbers through a leaky ReLU. The
convolutions have ReLUs. Each channel of an image gets a mean and a deviation of photographs, which the latent decides too.
The initialisations add to each other:

    random          normal weights, no biases, no noise
    high_frequency  kernels of oriented wavelets, and in every layer a noise map whose spectrum falls as 1 / f^a
    sparse          and biases uniform in +-0.2, under which many activations are 0; the noise under a Laplacian envelope
    oriented        and one noise map for all layers

In the paper noise maps are drawn for each image from a store of 100 in each layer. Here they are combinations of STORED maps in
proportions that the latent gives, so that an image is a continuous function of its latent. The paper draws new weights every
400 images; here they are those of the whole dataset, so that positives can come from the latent.

Images are differentiable in all numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrep import seeding

from ..base import LatentSpec
from ..stylegan2 import ops
from ..stylegan2.network_config import StyleGAN2Config
from ..stylegan2.networks import SynthesisLayer, SynthesisNetwork, ToRGB, channel_schedule
from . import options
from .arithmetic import natural_colours, uniform
from .fractal_noise import FractalNoise

WEIGHTLESS = True
LAW = 1  # raise it when a latent's image changes
OPTIONS = frozenset({"height", "width", "initialisation", "seed", "w_dim", "channel_base", "channel_max"})
INITIALISATIONS = ("random", "high_frequency", "sparse", "oriented")
STORED = 16  # noise maps of a layer
NOISE = 0.3  # largest strength of the noise
BIAS = 0.2  # largest bias
ROW = 1024  # numbers drawn at a time


def open_plain(
    *,
    device: str | torch.device = "cpu",
    height: int = 64,
    width: int = 64,
    initialisation: str = "oriented",
    seed: int = 0,
    w_dim: int = 128,
    channel_base: int = 2048,
    channel_max: int = 128,
) -> RandomStyleGAN2:
    """The generator.

    Args:
        device: of the network.
        height: of the images, in pixels; cut from the middle of the network's, whose side is a power of two.
        width: of the images, in pixels.
        initialisation: see the module.
        seed: of the weights.
        w_dim: numbers of the latent for each layer.
        channel_base: channels of a layer times its resolution.
        channel_max: most channels of a layer.

    Raises RecipeError for a value that is none of these.
    """
    shape = options.image_shape(height, width)
    resolution = 1 << (max(shape) - 1).bit_length()
    config = StyleGAN2Config(
        z_dim=options.whole("w_dim", w_dim, 1, 4096),
        w_dim=w_dim,
        resolution=resolution,
        channels=channel_schedule(
            resolution,
            options.whole("channel_base", channel_base, resolution, 1 << 20),
            options.whole("channel_max", channel_max, 1, 4096),
        ),
        activation="relu",
        use_noise=False,
    )
    return RandomStyleGAN2(
        config,
        shape,
        options.choice("initialisation", initialisation, INITIALISATIONS),
        options.whole("seed", seed, 0, (1 << 63) - 1),
        device,
    )


class Draws:
    """Numbers that are fixed functions of a seed and a name, in any version of PyTorch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def normals(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers."""
        count = math.prod(shape)
        rows = np.arange(-(-count // ROW))
        drawn = seeding.standard_normals(seeding.derive("stylegan2_random", self.seed, name), rows, 0, ROW)
        return torch.from_numpy(drawn.reshape(-1)[:count].astype(np.float32)).reshape(shape)

    def uniforms(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in (0, 1)."""
        return uniform(self.normals(name, *shape))


class RandomStyleGAN2:
    """See the module."""

    num_classes = 0

    def __init__(
        self,
        config: StyleGAN2Config,
        shape: tuple[int, int],
        initialisation: str,
        seed: int,
        device: str | torch.device,
    ) -> None:
        self.config = config
        self.image_shape = shape
        draws = Draws(seed)
        self.network = _network(config, initialisation, draws).to(device).to(memory_format=torch.channels_last)
        self.maps: list[Tensor] = []  # (STORED, H, W) for each convolution
        if initialisation != "random":
            self.maps = [each.to(device) for each in _noise_maps(config, draws, initialisation)]
        self.shared = initialisation == "oriented"
        layers = len(self.maps)
        mixtures = STORED * (min(layers, 1) if self.shared else layers)
        self.parts = (config.num_ws * config.w_dim, mixtures, layers, 6)
        # Chunks: w of each layer, proportions of the noise maps, their strengths, the colours. A view may move one alone.
        chunks = (*(config.w_dim,) * config.num_ws, *(part for part in self.parts[1:] if part))
        self.latent = LatentSpec(dim=sum(chunks), chunks=chunks)

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``."""
        styles, mixtures, strengths, colours = z.float().split(self.parts, dim=1)
        ws = F.leaky_relu(styles, 0.2).unflatten(1, (self.config.num_ws, self.config.w_dim)).unbind(dim=1)
        images = self._images(ws, self._noise(mixtures, strengths))
        images = images - images.mean(dim=(2, 3), keepdim=True)
        images = images / torch.sqrt((images * images).mean(dim=(2, 3), keepdim=True) + 1e-8)
        height, width = self.image_shape
        top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
        return natural_colours(images[:, :, top : top + height, left : left + width], colours)

    def _noise(self, mixtures: Tensor, strengths: Tensor) -> list[Tensor | None]:
        """Noise of each convolution, ``(B, 1, H, W)``; None for no noise."""
        if not self.maps:
            return [None] * (self.config.num_ws - 1)
        proportions = mixtures.unflatten(1, (-1, STORED))
        proportions = proportions / torch.sqrt((proportions * proportions).sum(dim=2, keepdim=True) + 1e-8)
        amounts = NOISE * uniform(strengths)
        found: list[Tensor | None] = []
        for number, maps in enumerate(self.maps):
            own = proportions[:, 0 if self.shared else number] * amounts[:, number, None]
            found.append((own @ maps.flatten(1)).unflatten(1, maps.shape[1:])[:, None])
        return found

    def _images(self, ws: tuple[Tensor, ...], noise: list[Tensor | None]) -> Tensor:
        """The network's output before its colours are set. Shape: ``num_ws`` times ``(B, w_dim) -> (B, 3, R, R)``."""
        image: Tensor | None = None
        x = torch.empty(0)
        for i, resolution in enumerate(self.config.resolutions):
            block: Any = self.network.get_submodule(f"b{resolution}")
            if i == 0:
                x = block.const.repeat(len(ws[0]), 1, 1, 1).contiguous(memory_format=torch.channels_last)
                x = block.conv1(x, ws[0], "none", noise=noise[0])
            else:
                x = block.conv0(x, ws[2 * i - 1], "none", noise=noise[2 * i - 1])
                x = block.conv1(x, ws[2 * i], "none", noise=noise[2 * i])
            rgb = block.torgb(x, ws[2 * i + 1])
            image = rgb if image is None else ops.upsample2(image, block.resample_filter) + rgb
        assert image is not None
        return image


def _network(config: StyleGAN2Config, initialisation: str, draws: Draws) -> SynthesisNetwork:
    with torch.device("meta"):  # no time for random weights, and none of PyTorch's own generator
        network = SynthesisNetwork(config)
    state = {}
    for name, meta in network.state_dict().items():
        shape = tuple(meta.shape)
        if name.endswith("resample_filter"):
            state[name] = ops.up_kernel(config.resample_taps)
        elif name.endswith("affine.bias"):
            state[name] = torch.ones(shape)
        elif name.endswith("bias"):
            biased = initialisation in ("sparse", "oriented") and "torgb" not in name
            state[name] = BIAS * (2.0 * draws.uniforms(name, *shape) - 1.0) if biased else torch.zeros(shape)
        elif initialisation != "random" and shape[-2:] == (3, 3):
            state[name] = _oriented(draws, name, *shape[:2])
        else:
            state[name] = draws.normals(name, *shape)
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, ops.Dense | SynthesisLayer | ToRGB):
            module.freeze()
    return network


def _oriented(draws: Draws, name: str, outputs: int, inputs: int) -> Tensor:
    """Kernels that apply one wavelet to each input channel. Shape: ``(O, I, 3, 3)``."""
    bank = wavelets()
    chosen = (draws.uniforms(f"{name} wavelets", inputs) * len(bank)).long().clamp(max=len(bank) - 1)
    return draws.normals(name, outputs, 1, 1, 1) * bank[chosen]


def wavelets() -> Tensor:
    """Edges and lines in eight directions, spots and crosses, all in both signs. Shape: ``(N, 3, 3)``."""
    steps = torch.tensor([-1.0, 0.0, 1.0])
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    found = []
    for number in range(8):
        angle = number * math.pi / 8
        across = columns * math.cos(angle) + rows * math.sin(angle)
        line = torch.exp(-2.0 * across * across)
        found += [across.clamp(-1.0, 1.0), line - line.mean()]
    spot = torch.zeros(3, 3)
    spot[1, 1] = 1.0
    cross = torch.zeros(3, 3)
    cross[1], cross[:, 1] = 1.0, 1.0
    found += [spot, 2.0 * spot - 1.0, cross, 2.0 * cross - 1.0]
    return torch.stack([*found, *(-each for each in found)])


def _noise_maps(config: StyleGAN2Config, draws: Draws, initialisation: str) -> list[Tensor]:
    """Noise of each convolution. Shape: ``(STORED, H, W)`` each."""
    sizes = [4, *(size for size in config.resolutions[1:] for _ in range(2))]
    if initialisation != "oriented":
        sparse = initialisation == "sparse"
        return [_pink(draws, f"noise {number}", size, sparse=sparse) for number, size in enumerate(sizes)]
    largest = _pink(draws, "noise", sizes[-1], sparse=True)
    return [F.adaptive_avg_pool2d(largest, size) for size in sizes]


def _pink(draws: Draws, name: str, size: int, *, sparse: bool) -> Tensor:
    """Noise of unit deviation whose spectrum falls; ``sparse``: under an envelope. Shape: ``(STORED, size, size)``."""
    slopes = 0.5 + draws.uniforms(f"{name} slopes", STORED)
    law = FractalNoise((size, size), mixed=False, exponents=(0.0, 0.0), device="cpu")
    noise = law.filtered(draws.normals(name, STORED, 1, size, size), law.amplitudes(slopes, slopes))[:, 0]
    if sparse:
        # A normal number times the root of twice an exponential one has the law of Laplace.
        wide = torch.sqrt(-2.0 * torch.log(draws.uniforms(f"{name} widths", STORED, 1, 4, 4).clamp(min=1e-6)))
        envelope = draws.normals(f"{name} envelope", STORED, 1, 4, 4) * wide
        noise = noise * F.interpolate(envelope, size=(size, size), mode="bicubic", align_corners=False)[:, 0]
    return noise / noise.std(dim=(1, 2), keepdim=True)
