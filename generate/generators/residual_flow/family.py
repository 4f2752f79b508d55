"""Residual Flow (Chen et al. 2019): the checkpoints that its authors' training writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.errors import GeneratorError, WeightsError
from genrep.state_dicts import NoSuchNetwork, as_choice
from genrep.untrusted import label

from ..base import Generator, LatentSpec
from ..checkpoint import Checkpoint
from .network import ResidualFlowNetwork
from .structure import find_training, read_structure

FAMILY = "residual_flow"
OPTIONS: frozenset[str] = frozenset()
WRITTEN = ("most_recent.pth", "models/most_recent.pth")  # by the authors' training, in or below its folder
PUBLISHED = "*_resflow_*.pth"
NETWORKS = ("ema", "state_dict")  # in a training's file


def find(folder: Path) -> Path | None:
    """The training's latest checkpoint, or the one published file. Raises WeightsError if there are several of these."""
    for name in WRITTEN:
        if (folder / name).is_file():
            return folder / name
    published = sorted(path for path in folder.glob(PUBLISHED) if path.is_file())
    if len(published) > 1:
        raise WeightsError(
            f"weights {folder}: several Residual Flows ({', '.join(path.name for path in published)}); name one"
        )
    return published[0] if published else None


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. The averaged weights ("ema") are taken, as for the published samples, or "state_dict"."""
    training = find_training(content)
    if training is None:
        return None
    if network not in (None, *NETWORKS):
        options = ", ".join(as_choice(str(path), name) for name in NETWORKS)
        raise NoSuchNetwork(f"weights {path}#{label(network)}: names none of its networks; wanted one of {options}")
    try:
        tensors, config = read_structure(training, averaged=network != "state_dict")
    except WeightsError as error:
        raise WeightsError(f"weights {path}: {error}") from None
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:  # RecursionError is one
        raise WeightsError(f"weights {path}: a damaged Residual Flow checkpoint ({error})") from None
    return Checkpoint(family=FAMILY, tensors=tensors, config=config)


def open_checkpoint(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> Generator:
    """See ``Family.open_checkpoint``. Bounding the weights by power iteration takes a moment."""
    return ResidualFlowGenerator.from_state(checkpoint.tensors, checkpoint.config, device=device)


class ResidualFlowGenerator:
    """A frozen Residual Flow run backwards; invertible, so a latent has as many components as the image has values."""

    def __init__(self, network: ResidualFlowNetwork) -> None:
        self.network = network.eval().requires_grad_(False)
        self.latent = LatentSpec(dim=network.latent_dim)
        self.num_classes = 0
        self.image_shape = network.image_size

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any], *, device: str | torch.device = "cpu"
    ) -> ResidualFlowGenerator:
        """Build the network that tensors and config describe. Raises WeightsError, in one line, if they do not fit."""
        try:
            network = ResidualFlowNetwork(tensors, config)
        except KeyError as error:
            raise WeightsError(f"Residual Flow weights: no {error}") from None
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            raise WeightsError(f"Residual Flow weights: {str(error).splitlines()[0]}") from None
        return cls(network.to(device))

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``; a gray image is repeated to RGB. Raises GeneratorError for latents of another size."""
        if z.dim() != 2 or z.shape[1] != self.latent.dim:
            raise GeneratorError(f"Residual Flow: latents of shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")
        images = self.network(z)
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
