"""The foreground of an image, told by the patches of a frozen encoder (GenView, Li et al. 2024), and the file that tells it.

A patch is a place of a ResNet's last map, layer4's before the global pooling, without dilation: a side of 224 pixels gives 7x7
patches with the 7x7 stem. Of a vision transformer it is one of its own, after the last norm. An image is resized (bilinear,
antialiased) so that its shorter side has ``size`` pixels (and each a multiple of a transformer's patches), and normalised.
``projection = (features - mean) · direction``; a patch is foreground if its projection is above ``threshold``.

The file is safetensors. ``encoder.*`` is the encoder under torchvision's or timm's names. ``mean`` and ``direction`` ``(C,)``,
``threshold`` ``()``, ``size`` ``()`` int64, and ``pixel_mean`` and ``pixel_std`` ``(3,)`` are all else that a projection
depends on, so that the digest of the tensors is the file's identity. Metadata, all of them strings: ``genrep`` =
``foreground/1``, ``arch`` and ``stem``; of a transformer, and with ``arch`` in its identity, ``model`` (JSON: what else it is
built from) and ``positions`` (pixels of the images that its positions were made for); and how it came to be: the fields of
``ForegroundFacts``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.encoders import PATCH, EncoderFacts, Features
from genrep.encoders.layouts import check_fit, misfits_of, plain
from genrep.encoders.loaded import built, check_facts
from genrep.encoders.networks import Encoder
from genrep.errors import WeightsError
from genrep.files import canonical_json, digest_json, sha256_file, write_atomic
from genrep.tensor_files import read_safetensors, safetensors_bytes
from genrep.untrusted import content_faults, label, printable

from ..generators.base import Checkpoint
from .base import ViewFile

FORMAT = "foreground/1"
MAX_SIZE = 1024  # pixels of a shorter side, which a file's word may ask for
LARGEST_FILE = 1 << 30  # bytes: four times a ResNet-152's
INSIDE = "encoder."
MODEL, POSITIONS = "model", "positions"  # of a vision transformer, in the metadata
LONGEST = 400  # characters of a model
UNIT = 1e-3  # by which the length of a direction may differ from 1


@dataclass(frozen=True, kw_only=True)
class ForegroundFacts:
    """Metadata of the file: how it came to be."""

    data: str = ""
    data_licence: str = ""
    data_sha256: str = ""
    encoder: str = ""
    encoder_sha256: str = ""
    images: str = ""
    notes: str = ""


class Patches(nn.Module):
    """An encoder up to its last map, with its images' size and normalisation. One image at a time, so no batch changes a bit.

    Shape: ``(H, W, 3)`` uint8 -> ``(C, h, w)`` float64.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, encoder: nn.Module, facts: EncoderFacts) -> None:
        super().__init__()
        assert isinstance(encoder, Encoder)
        self.facts, self.size, self.multiple = facts, facts.size, encoder.side_multiple
        self.encoder = encoder.eval().requires_grad_(False)
        for name, values in (("pixel_mean", facts.mean), ("pixel_std", facts.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, levels: Tensor) -> Tensor:
        x = levels.permute(2, 0, 1)[None].float() / 255
        if self.size != min(x.shape[2:]) or any(side % self.multiple for side in x.shape[2:]):
            scale = self.size / min(x.shape[2:]) / self.multiple
            shape = [max(1, round(side * scale)) * self.multiple for side in x.shape[2:]]
            x = F.interpolate(x, shape, mode="bilinear", align_corners=False, antialias=True)
        x = (x - self.pixel_mean) / self.pixel_std
        found: Features = self.encoder(x, tokens=True)
        return found.patches[0].T.unflatten(1, found.grid).double()


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedForeground:
    """What a file holds, on the CPU, and where it came from."""

    patches: Patches
    mean: Tensor  # (C,) float32
    direction: Tensor  # (C,) float32
    threshold: float
    facts: ForegroundFacts
    file: ViewFile


class Foreground:
    """Projections, ratios and qualities on a device. The caller's encoder stays where it is."""

    def __init__(self, loaded: LoadedForeground, device: torch.device) -> None:
        self.patches = copy.deepcopy(loaded.patches).to(device)
        self.mean, self.direction = (values.to(device).double() for values in (loaded.mean, loaded.direction))
        self.threshold = loaded.threshold

    def project(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Features and projections of an image's patches. Shape: ``(H, W, 3)`` uint8 -> ``(C, h, w), (h, w)`` float64."""
        features = self.patches(levels)
        return features, ((features.flatten(1).T - self.mean) @ self.direction).view(features.shape[1:])

    def ratios(self, levels: Tensor) -> Tensor:
        """Foreground patches / all patches. Shape: ``(B, H, W, 3)`` uint8 -> ``(B,)`` float64."""
        return torch.stack([(self.project(image)[1] > self.threshold).double().mean() for image in levels])

    def qualities(self, anchors: Tensor, positives: Sequence[Tensor]) -> Tensor:
        """``s_f - s_b`` of each anchor and its positives, their mean. Shapes: ``(B, H, W, 3)`` uint8 each -> ``(B,)``."""
        found = []
        for row, anchor in enumerate(anchors):
            mine = self._pooled(anchor)
            each = [similarity(mine, self._pooled(images[row])) for images in positives]
            found.append(torch.stack([similar[0] - similar[1] for similar in each]).mean())
        return torch.stack(found)

    def _pooled(self, levels: Tensor) -> Tensor:
        """Features pooled by the foreground and by the background map. Shape: ``(H, W, 3)`` uint8 -> ``(2, C)``."""
        features, projections = self.project(levels)
        front = normalised(projections)
        maps = torch.stack([front.flatten(), 1 - front.flatten()])
        return (maps / maps.sum(dim=1, keepdim=True)) @ features.flatten(1).T


def normalised(projections: Tensor) -> Tensor:
    """From 0, the least foreground of the image, to 1; a half everywhere if all patches are alike. Shape: any."""
    least, most = projections.min(), projections.max()
    span = most - least
    return torch.where(span > 0, (projections - least) / torch.where(span > 0, span, 1.0), 0.5)


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of two rows; 0 where one of them is 0. Shape: ``(N, C), (N, C) -> (N,)``."""
    lengths = one.norm(dim=1) * other.norm(dim=1)
    return (one * other).sum(dim=1) / torch.where(lengths > 0, lengths, 1.0)


def save_foreground(
    path: Path, patches: Patches, mean: Tensor, direction: Tensor, threshold: float, facts: ForegroundFacts
) -> None:
    """Write the file, whole or not at all. The same content gives the same bytes."""
    tensors = {
        **{f"{INSIDE}{name}": tensor for name, tensor in patches.encoder.state_dict().items()},
        "mean": mean.float(),
        "direction": direction.float(),
        "threshold": torch.tensor(threshold, dtype=torch.float64),
        "size": torch.tensor(patches.size),
        "pixel_mean": patches.pixel_mean.flatten(),
        "pixel_std": patches.pixel_std.flatten(),
    }
    metadata = {"genrep": FORMAT, "arch": patches.facts.arch, "stem": patches.facts.stem, **vars(facts)}
    if patches.facts.stem == PATCH:
        metadata |= {
            MODEL: canonical_json(dict(patches.facts.model)).decode(),
            POSITIONS: str(patches.encoder.positions_for),
        }
    write_atomic(path, safetensors_bytes(tensors, metadata))


def load_foreground(path: Path) -> LoadedForeground:
    """Read a file of ``fit-foreground``, which may be a stranger's.

    Raises:
        WeightsError: there is no file, or it is not a complete one of this kind.
    """
    where = printable(str(path))
    if not path.is_file():
        raise WeightsError(f"{where}: no such file; fit-foreground writes one")
    if path.stat().st_size > LARGEST_FILE:
        raise WeightsError(f"{where}: {path.stat().st_size:,} bytes, wanted at most {LARGEST_FILE:,}")
    tensors, metadata = read_safetensors(path, where)
    if metadata.get("genrep") != FORMAT:
        raise WeightsError(f"{where}: its metadata say genrep = {label(metadata.get('genrep'))}, wanted {FORMAT!r}")
    with content_faults(f"{where}: not a foreground", WeightsError, "one of fit-foreground"):
        return _checked(path, where, tensors, metadata)


def _encoder_facts(metadata: Mapping[str, str], where: str) -> EncoderFacts:
    """Of the encoder in a file: ``size`` is what its positions were made for. Raises WeightsError for what we cannot build."""
    text = metadata.get(MODEL, "{}")
    if len(text) > LONGEST:
        raise WeightsError(f"{where}: its {MODEL} has {len(text):,} characters; wanted {LONGEST} at most")
    facts = EncoderFacts(
        arch=metadata.get("arch", ""),
        stem=metadata.get("stem", ""),
        size=int(metadata.get(POSITIONS, "1")),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        model=dict(json.loads(text)),
    )
    check_facts(facts, where)
    return facts


def _checked(path: Path, where: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> LoadedForeground:
    facts = _encoder_facts(metadata, where)
    try:
        with torch.device("meta"):
            encoder = built(facts)
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from None
    wanted = {f"{INSIDE}{name}": tensor.shape for name, tensor in encoder.state_dict().items()}
    length = torch.Size([encoder.channels])
    wanted |= {"mean": length, "direction": length, "threshold": torch.Size(), "size": torch.Size()}
    wanted |= {name: torch.Size([3]) for name in ("pixel_mean", "pixel_std")}
    check_fit(misfits_of(tensors, wanted), f"a foreground of {facts.arch}", where)
    size = int(tensors["size"]) if tensors["size"].dtype == torch.int64 else 0
    if not 1 <= size <= MAX_SIZE:
        raise WeightsError(f"{where}: size {size}, wanted 1 to {MAX_SIZE} pixels as int64")
    if size % encoder.side_multiple:
        raise WeightsError(f"{where}: size {size}, wanted a multiple of the patches' {encoder.side_multiple} pixels")
    threshold = tensors["threshold"]
    if threshold.dtype != torch.float64 or not bool(threshold.isfinite()):
        raise WeightsError(f"{where}: threshold {label(threshold.tolist())}, wanted a number as float64")
    values = plain(tensors, [name for name in wanted if name not in ("size", "threshold")], where)
    if float(values["pixel_std"].min()) <= 0:
        raise WeightsError(f"{where}: pixel_std {values['pixel_std'].tolist()}, wanted three numbers above 0")
    if abs(float(values["direction"].norm()) - 1) > UNIT:
        raise WeightsError(f"{where}: direction of length {float(values['direction'].norm()):.3g}, wanted 1")
    state = {name.removeprefix(INSIDE): values[name] for name in values if name.startswith(INSIDE)}
    encoder.load_state_dict(state, assign=True)
    mean, std = (values[name].tolist() for name in ("pixel_mean", "pixel_std"))
    digest = Checkpoint(family=FORMAT, tensors=tensors).digest()
    if facts.stem == PATCH:  # neither its heads nor its activation leave a trace in the tensors
        digest = digest_json([digest, facts.arch, facts.model])
    return LoadedForeground(
        patches=Patches(encoder, replace(facts, size=size, mean=tuple(mean), std=tuple(std))),
        mean=values["mean"],
        direction=values["direction"],
        threshold=float(threshold),
        facts=ForegroundFacts(**{name: metadata.get(name, "")[:1000] for name in vars(ForegroundFacts())}),
        file=ViewFile(digest=digest, path=path, sha256=sha256_file(path)),
    )
