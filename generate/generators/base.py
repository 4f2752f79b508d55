"""The interface of a generator (latents in, images out), and its weights in the one form that the rest of genrep reads.

A checkpoint is named tensors, plus the facts that cannot be read off them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from genrep import seeding, tensor_files
from genrep.errors import RecipeError, WeightsError, one_of
from genrep.files import canonical_json, write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


Law = Literal["normal", "truncated_normal"]
LAWS: tuple[Law, ...] = ("normal", "truncated_normal")


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """A generator's latent and the law that anchors are drawn from.

    ``dim`` is the number of values of a latent, ``shape`` their form: give one of the two. Noise of a diffusion model is
    ``LatentSpec(shape=(4, 64, 64))``.

    ``truncated_normal`` redraws components outside ``+-truncation`` (1 is a standard deviation of the untruncated law);
    ``scale`` multiplies the result (BigGAN's truncation). ``chunks`` are the sizes of the parts of a hierarchical latent in
    the order in which they enter the network.
    """

    dim: int = 0
    shape: tuple[int, ...] = ()
    chunks: tuple[int, ...] = ()
    law: Law = "normal"
    truncation: float | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        shape = tuple(self.shape) or (self.dim,)
        if min(shape) < 1 or self.dim not in (0, prod(shape)):
            raise RecipeError(f"latent of {self.dim} values and shape {shape}: wanted positive sizes of that product")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dim", prod(shape))
        if self.law not in LAWS:
            raise RecipeError(f"latent law {self.law!r}: known: {one_of(self.law, LAWS)}")
        if (self.law == "truncated_normal") != (self.truncation is not None):
            raise RecipeError(
                f"latent law {self.law!r} with truncation {self.truncation}: only truncated_normal has one, and needs it"
            )
        if self.truncation is not None and not self.truncation > 0:
            raise RecipeError(f"latent truncation {self.truncation}: wanted a positive number")
        if self.chunks and sum(self.chunks) != self.dim:
            raise RecipeError(f"latent chunks {self.chunks}: wanted sizes that sum to {self.dim}")

    def sample(self, seed: int, indices: NDArray[np.int64], stream: int = seeding.ANCHOR) -> NDArray[np.float32]:
        """Latents of the pairs with these indices, as flat rows. Shape: ``(B,) -> (B, dim)``, float32."""
        if self.truncation is None:
            z = seeding.standard_normals(seed, indices, stream, self.dim)
        else:
            z = seeding.truncated_normals(seed, indices, stream, self.dim, self.truncation)
        return (z * self.scale).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """The law in the form of a recipe."""
        return {
            "shape": list(self.shape),
            "chunks": list(self.chunks or (self.dim,)),
            "law": self.law,
            "truncation": self.truncation,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> LatentSpec:
        """The law in a recipe; the reverse of ``to_json``. Raises RecipeError, KeyError or TypeError for what is none."""
        chunks = tuple(int(size) for size in table["chunks"])
        return cls(
            shape=tuple(int(size) for size in table["shape"]),
            chunks=chunks if len(chunks) > 1 else (),
            law=table["law"],
            truncation=table["truncation"],
            scale=table["scale"],
        )


@runtime_checkable
class Generator(Protocol):
    """A black box that turns latents into images; write your own in ten lines (see README.md).

    A generator may have further attributes:
        allow_range: True: its images are correct although no value is negative.
        takes_prompts: True: ``y`` is a sequence of B texts. Keep what you encode of a text, for it comes again.
        prompts_optional: True: ``y`` may be None as well.
        draws_noise: True: its sampler draws noise in its steps. ``synthesize``, ``edit`` and ``vary`` then get
            ``noise=``, a ``genrep.seeding.StepNoise``, and take all random numbers from it.
        edit: ``edit(images, z, y, *, strength)`` noises images and denoises them again (SDEdit, Meng et al. 2022). Shapes:
            images ``(B, 3, H, W)`` in [-1, 1], z as below, strength ``(B,)`` in (0, 1] -> images.
        vary: ``vary(images, z, y, *, noise_level)`` makes images with the content of others (unCLIP, Ramesh et al. 2022).
            noise_level ``(B,)`` int64, of the noise on their embeddings.
    """

    latent: LatentSpec
    num_classes: int  # 0 = unconditional
    image_shape: tuple[int, int]  # (H, W) of the network's whole output; cropping belongs to the recipe

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images for latents.

        Shapes: z ``(B, *latent.shape)`` float32; y ``(B,)`` int64 classes, ``(B, num_classes)`` soft classes, or None ->
        ``(B, 3, H, W)`` float, nominally in [-1, 1], never clamped, differentiable in z.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LoadedFolder:
    """What a family of model folders makes of one."""

    generator: Generator
    digest: str  # hex sha256 of tensors and settings, and of no name or place
    config: dict[str, Any]  # what else the images depend on
    facts: dict[str, Any] = field(default_factory=dict)  # for people: notes on what was left unread


FORMAT = "genrep-generator/1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a weights file of any format.

    ``tensors``: the network's parameters and buffers under the names of our modules, on the CPU, floating point ones as
    float32. ``config``: JSON values that the network's function depends on and that cannot be read off the tensors.
    """

    family: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # where in its file the network was found, and which tensors were left out

    def digest(self) -> str:
        """Hex sha256 over names, shapes, dtypes and little-endian bytes, in order of name: the same from any container."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name].detach().cpu().contiguous()
            array = tensor.numpy()
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{name}\x1f{tuple(tensor.shape)}\x1f{array.dtype.name}\x1f".encode())
            digest.update(little.tobytes())
        return digest.hexdigest()


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write safetensors whose metadata hold family and config."""
    metadata = {
        "genrep": FORMAT,
        "family": checkpoint.family,
        "config": canonical_json(checkpoint.config).decode(),
    }
    write_atomic(path, tensor_files.safetensors_bytes(checkpoint.tensors, metadata))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (floating point ones as float32) and metadata of a safetensors file. Raises WeightsError if it is not one."""
    state, metadata = tensor_files.read_safetensors(path, f"weights {path}")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, metadata


def checkpoint_from_safetensors(path: Path) -> Checkpoint | None:
    """The checkpoint that ``save_checkpoint`` (or fit-gan) wrote; None if the file names no family."""
    tensors, metadata = read_safetensors(path)
    if "family" not in metadata:
        return None
    try:
        config = json.loads(metadata.get("config", "{}"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise WeightsError(f"weights {path}: the config in its metadata is not a JSON object")
    return Checkpoint(family=metadata["family"], tensors=tensors, config=config)
