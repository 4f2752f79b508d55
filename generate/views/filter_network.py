"""The discriminator of a filter, which scores how real an image looks after its fine detail is blurred, and its file.

The file is safetensors with keys ``convs.{l}.weight``, ``convs.{l}.bias``, ``out.weight`` and ``out.bias``, all float32.
Metadata, all of them strings: ``genrep`` = ``filter/1``; ``height`` and ``width`` of the images that it scores; and how it
came to be: ``gen``, ``data``, ``images`` (real ones shown).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import WeightsError
from genrep.files import sha256_file, write_atomic
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD
from genrep.seeding import derive
from genrep.tensor_files import safetensors_bytes

from ..generators.base import Checkpoint, read_safetensors

FORMAT = "filter/1"
FILTER_FILE = "filter.safetensors"
MAX_SIDE = 8192  # pixels
BLUR_RADIUS, BLUR_SIGMA = 2, 1.5  # pixels: a 5x5 kernel (HL)
MIN_SIDE = 4  # pixels of an image: reflection at its border needs more than the radius
SLOPE = 0.2  # slope of leaky ReLU
FIRST_WIDTH, LARGEST_WIDTH = 16, 256  # channels


class Scorer(nn.Module):
    """Gaussian blur, ImageNet's normalisation, then 3x3 convolutions that halve the image until a side is below 8.

    No layer looks at more than one image (no batch norm), so a score depends on its image alone, in training as after it.

    Shape: ``(B, H, W, 3)`` uint8 -> ``(B,)``, the log-odds of being real.
    """

    kernel: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, height: int, width: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.register_buffer("kernel", blur_kernel().expand(3, 1, -1, -1).clone(), persistent=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2 if i else 1, padding=1)
            for i, (before, after) in enumerate(itertools.pairwise((3, *channels)))
        )
        self.out = nn.Linear(channels[-1] * map_size(height, width, len(channels) - 1), 1)

    def forward(self, levels: Tensor) -> Tensor:
        x = self.prepare(levels)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
        return self.out(x.flatten(1))[:, 0]

    def prepare(self, levels: Tensor) -> Tensor:
        """The input of the network. Shape: ``(B, H, W, 3)`` uint8 -> ``(B, 3, H, W)`` float32."""
        x = levels.permute(0, 3, 1, 2).float() / 255
        x = F.conv2d(F.pad(x, (BLUR_RADIUS,) * 4, mode="reflect"), self.kernel, groups=3)
        return (x - self.mean) / self.std


def blur_kernel() -> Tensor:
    """Gaussian weights that sum to 1. Shape: ``(5, 5)``."""
    distance = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (distance / BLUR_SIGMA).square())
    weights = weights / weights.sum()
    return torch.outer(weights, weights).float()


def map_size(height: int, width: int, halvings: int) -> int:
    """Pixels that are left after the strided convolutions."""
    for _ in range(halvings):
        height, width = -(-height // 2), -(-width // 2)
    return height * width


def channels_for(height: int, width: int) -> tuple[int, ...]:
    """Widths of the convolutions that suit images of a size: 16, 32, 64, 128 for 32x32."""
    side, channels = min(height, width), [FIRST_WIDTH]
    while side >= 2 * MIN_SIDE:
        side = -(-side // 2)
        channels.append(min(2 * channels[-1], LARGEST_WIDTH))
    return tuple(channels)


def new_scorer(height: int, width: int, seed: int) -> Scorer:
    """A fresh discriminator for images of a size, from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("filter-init", seed))
        scorer = Scorer(height, width, channels_for(height, width))
        for conv in scorer.convs:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_normal_(conv.weight, a=SLOPE)
            nn.init.zeros_(conv.bias)
    return scorer


def discriminator_loss(on_real: Tensor, on_generated: Tensor) -> Tensor:
    """Binary cross-entropy of log-odds, real = 1, generated = 0, both kinds weighing the same. Shape: ``(B,), (B,) -> ()``."""
    return (F.softplus(-on_real).mean() + F.softplus(on_generated).mean()) / 2


@dataclass(frozen=True, kw_only=True)
class FilterFacts:
    """Metadata of a discriminator's file."""

    gen: str = ""
    data: str = ""
    images: str = ""


@dataclass(frozen=True, kw_only=True)
class LoadedFilter:
    """A discriminator on the CPU, frozen, and where it came from."""

    scorer: Scorer
    facts: FilterFacts
    path: Path
    sha256: str  # of the file
    digest: str  # of the tensors, whatever contains them: the identity


def save_filter(path: Path, scorer: Scorer, facts: FilterFacts) -> None:
    """Write a discriminator, whole or not at all. The same one and the same facts give the same bytes."""
    shape = {"height": str(scorer.height), "width": str(scorer.width)}
    write_atomic(path, safetensors_bytes(scorer.state_dict(), {"genrep": FORMAT, **shape, **vars(facts)}))


def load_filter(path: Path) -> LoadedFilter:
    """Read a discriminator from its file, or from the run folder that holds it.

    Raises:
        WeightsError: there is no file, or it is not a complete filter.
    """
    if path.is_dir():
        path = path / FILTER_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: no such filter; a finished run of fit-filter writes {FILTER_FILE}")
    tensors, metadata = read_safetensors(path)
    if metadata.get("genrep") != FORMAT:
        raise WeightsError(f"{path}: its metadata say genrep = {metadata.get('genrep')!r}, wanted {FORMAT!r}")
    height, width = (_side(metadata, name, path) for name in ("height", "width"))
    scorer = Scorer(height, width, _channels(tensors, height, width, path))
    scorer.load_state_dict(tensors)
    return LoadedFilter(
        scorer=scorer.eval().requires_grad_(False),
        facts=FilterFacts(**{name: metadata.get(name, "") for name in ("gen", "data", "images")}),
        path=path,
        sha256=sha256_file(path),
        digest=Checkpoint(family=FORMAT, tensors=tensors).digest(),
    )


def _side(metadata: dict[str, str], name: str, path: Path) -> int:
    text = metadata.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and MIN_SIDE <= int(text) <= MAX_SIDE):
        raise WeightsError(f"{path}: {name} {text[:20]!r}, wanted {MIN_SIDE} to {MAX_SIDE} pixels")
    return int(text)


def _channels(tensors: dict[str, Tensor], height: int, width: int, path: Path) -> tuple[int, ...]:
    """Widths of the convolutions. Raises WeightsError unless the tensors are a whole network for images of this size."""
    count = sum(name.startswith("convs.") and name.endswith(".weight") for name in tensors)
    names = [f"convs.{i}" for i in range(count)] + ["out"]
    wanted = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    if not count or tensors.keys() != wanted:
        odd = sorted(tensors.keys() ^ wanted) or ["convs.0.weight"]
        raise WeightsError(
            f"{path}: tensor {odd[0]} is missing or unknown, wanted convs.N and out, weight and bias each"
        )
    channels = tuple(len(tensors[f"convs.{i}.bias"].flatten()) for i in range(count))
    shapes = {"out.weight": (1, channels[-1] * map_size(height, width, count - 1)), "out.bias": (1,)}
    for i, (before, after) in enumerate(zip((3, *channels), channels)):
        shapes |= {f"convs.{i}.weight": (after, before, 3, 3), f"convs.{i}.bias": (after,)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise WeightsError(f"{path}: tensor {name} of shape {tuple(tensor.shape)}, wanted {shapes[name]}")
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise WeightsError(f"{path}: tensor {name} holds NaN or infinity")
    return channels
