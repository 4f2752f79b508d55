"""BigGAN-deep as Hugging Face publishes it: ``pytorch_model.bin`` with a config beside it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.errors import GeneratorError, WeightsError

from ..base import Generator, LatentSpec
from ..checkpoint import Checkpoint
from ..found_network import find_network
from .network import BigGANDeepNetwork
from .structure import EPS, compare, read_config, read_structure

FAMILY = "biggan_deep"
OPTIONS = frozenset({"truncation"})
SAMPLING_TRUNCATION = 2.0  # z is a normal redrawn outside +-2, times the truncation
WEIGHTS, CONFIG = "pytorch_model.bin", "config.json"
SIGNATURE = {"embeddings.weight", "generator.gen_z.weight_orig", "generator.conv_to_rgb.weight_orig"}


def find(folder: Path) -> Path | None:
    """``pytorch_model.bin``, or the one ``NAME-pytorch_model.bin``. Raises WeightsError if there are several of these."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    named = sorted(path for path in folder.glob(f"*-{WEIGHTS}") if path.is_file())
    if len(named) > 1:
        raise WeightsError(f"weights {folder}: several generators ({', '.join(path.name for path in named)}); name one")
    return named[0] if named else None


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. Which blocks double the resolution is in the config alone.

    Without a config it is taken to be every second one, as in all published networks.
    """
    found = find_network(content, SIGNATURE, f"weights {path}", every=True, network=network)
    if found is None:
        return None
    tensors = found.tensors
    config_path = _config_of(path)
    config = read_config(config_path) if config_path else None
    upsample = [bool(layer[0]) for layer in config["layers"]] if config else None
    eps = float(config["eps"]) if config else EPS
    try:
        structure = read_structure(tensors, upsample, eps)
    except WeightsError as error:
        raise WeightsError(f"weights {path}: {error}") from None
    if config and config_path:
        compare(config, structure, config_path)
    return Checkpoint(
        family=FAMILY,
        tensors={name: tensors[name].float() for name in structure.shapes()},
        notes=found.notes(structure.shapes()),
        config={"upsample": [block.upsample for block in structure.blocks], "eps": eps},
    )


def _config_of(path: Path) -> Path | None:
    names = [f"{path.name.removesuffix(WEIGHTS)}{CONFIG}"] if path.name.endswith(WEIGHTS) else []
    for name in (*names, f"{path.stem}-{CONFIG}", CONFIG):
        if path.with_name(name).is_file():
            return path.with_name(name)
    return None


def open_checkpoint(
    checkpoint: Checkpoint, *, device: str | torch.device = "cpu", truncation: float = 1.0
) -> Generator:
    """See ``Family.open_checkpoint``; ``truncation`` in (0, 1] chooses the batch statistics and scales the latents.

    Raises GeneratorError for a truncation outside.
    """
    if isinstance(truncation, bool) or not isinstance(truncation, (int, float)) or not 0 < truncation <= 1:
        raise GeneratorError(f"truncation {truncation!r}: BigGAN-deep has statistics for 0 < truncation <= 1")
    upsample, eps = checkpoint.config.get("upsample"), checkpoint.config.get("eps")
    if not isinstance(upsample, list) or not isinstance(eps, float):
        raise WeightsError(f"BigGAN-deep weights: config {checkpoint.config}, wanted 'upsample' and 'eps'")
    structure = read_structure(checkpoint.tensors, upsample, eps)
    network = BigGANDeepNetwork(checkpoint.tensors, structure, float(truncation))
    return BigGANDeepGenerator(network.to(device), truncation=float(truncation))


class BigGANDeepGenerator:
    """A frozen, class-conditional BigGAN-deep at one truncation, which its batch statistics and its latents' scale follow."""

    def __init__(self, network: BigGANDeepNetwork, *, truncation: float = 1.0) -> None:
        self.network = network.eval().requires_grad_(False)
        self.truncation = truncation
        structure = network.structure
        self.latent = LatentSpec(
            dim=structure.z_dim, law="truncated_normal", truncation=SAMPLING_TRUNCATION, scale=truncation
        )
        self.num_classes = structure.num_classes
        self.image_shape = (structure.resolution, structure.resolution)

    def class_embeddings(self, y: Tensor | None) -> Tensor:
        """Class indices ``(B,)`` or soft classes ``(B, num_classes)`` -> ``(B, class_dim)``.

        Raises GeneratorError for anything else, and for classes that do not exist.
        """
        wanted = f"wanted classes (B,) below {self.num_classes} or soft classes (B, {self.num_classes})"
        if y is None:
            raise GeneratorError(f"BigGAN-deep: synthesize without y, {wanted}")
        if y.dim() == 2 and y.shape[1] == self.num_classes:
            return y.to(self.network.embeddings) @ self.network.embeddings
        if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool:
            raise GeneratorError(f"BigGAN-deep: y is {y.dtype} of shape {tuple(y.shape)}, {wanted}")
        # On a GPU this would wait for all work under way, and the kernel's own check ends the process anyway.
        if y.device.type == "cpu" and len(y) and not 0 <= int(y.min()) <= int(y.max()) < self.num_classes:
            raise GeneratorError(f"BigGAN-deep: y from {int(y.min())} to {int(y.max())}, {wanted}")
        return F.embedding(y.to(self.network.embeddings.device, torch.int64), self.network.embeddings)

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``. Raises GeneratorError for z or y of another shape."""
        if z.dim() != 2 or z.shape[1] != self.latent.dim:
            raise GeneratorError(f"BigGAN-deep: latents of shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")
        embedding = self.class_embeddings(y)
        if len(embedding) != len(z):
            raise GeneratorError(f"BigGAN-deep: {len(z)} latents with {len(embedding)} classes, wanted one each")
        return self.network(z.to(embedding.dtype), embedding).float()
