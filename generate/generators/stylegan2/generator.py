"""StyleGAN2 behind the Generator protocol."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.errors import GeneratorError, WeightsError

from ..base import LatentSpec
from . import ops
from .network_config import StyleGAN2Config, common_taps, infer_config
from .networks import NoiseMode, StyleGAN2Network

if TYPE_CHECKING:
    from ..instance_features import InstanceFeatures


def expected_shapes(config: StyleGAN2Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors, without its filters, which the config tells."""
    with torch.device("meta"):
        state = StyleGAN2Network(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("resample_filter")}


class StyleGAN2Generator:
    """A frozen StyleGAN2: ``synthesize(z, y)``, and ``mapping`` / ``synthesize_w`` for its two halves.

    With instance features (IC-GAN), y is the row of the features that conditions each image, and ``num_classes`` the
    number of rows; the rows' labels, where the network has classes too, come with the features.
    """

    def __init__(
        self,
        network: StyleGAN2Network,
        *,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseMode = "const",
        instances: InstanceFeatures | None = None,
    ) -> None:
        network.freeze()
        self.network = network
        self.config: StyleGAN2Config = network.config
        self.truncation = truncation  # psi, about w_avg; 1 = none
        self.truncation_cutoff = truncation_cutoff  # number of W inputs that psi applies to, None = all
        self.noise = noise
        self.latent = LatentSpec(dim=self.config.z_dim)
        self.num_ws = self.config.num_ws
        self.image_shape = (self.config.resolution, self.config.resolution)
        self.needs_instances = self.config.h_dim > 0
        self.instances = instances
        self.num_classes = 0 if self.needs_instances else self.config.c_dim
        if instances is not None:
            device = network.mapping.w_avg.device
            self.num_classes = len(instances.features)
            self._features = instances.features.to(device)  # (N, h_dim)
            self._labels = None if instances.labels is None else instances.labels.to(device)  # (N,)

    @property
    def layer_groups(self) -> tuple[tuple[int, int], ...]:
        """The W inputs in four groups [first, end) from coarse to fine, as equal as their number allows."""
        ends = [-(-self.num_ws * i // 4) for i in range(5)]
        return tuple(pairwise(ends))

    @classmethod
    def from_state(
        cls,
        state: dict[str, Tensor],
        *,
        config: StyleGAN2Config | None = None,
        conv_clamp: float | None = None,
        device: str | torch.device = "cpu",
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseMode = "const",
        instances: InstanceFeatures | None = None,
    ) -> StyleGAN2Generator:
        """Build the network of a state dict with ADA names; ``config``: of its tensors if None, with ``conv_clamp``.

        Raises WeightsError, in one line, if the tensors do not fit.
        """
        if config is None:
            config = infer_config(state, conv_clamp=conv_clamp, resample_taps=common_taps(state))
        with torch.device("meta"):  # no time for random weights
            network = StyleGAN2Network(config)
        fir = ops.up_kernel(config.resample_taps)
        ours = {"mapping.w_avg": torch.zeros_like(network.mapping.w_avg, device="cpu"), **state}
        ours.update({name: fir for name in network.state_dict() if name.endswith("resample_filter")})
        try:
            network.load_state_dict(ours, assign=True)
        except RuntimeError as error:
            raise WeightsError(f"StyleGAN2 weights: {str(error).splitlines()[-1].strip()}") from None
        network = network.to(device).to(memory_format=torch.channels_last)
        return cls(
            network,
            truncation=truncation,
            truncation_cutoff=truncation_cutoff,
            noise=noise,
            instances=instances,
        )

    def conditions(self, y: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What y stands for: class vectors ``(B, c_dim)`` float32 and instance features ``(B, h_dim)``, None where unused.

        y ``(B,)`` int64: classes, or rows of the features; ``(B, c_dim)``: soft classes.
        """
        if self.needs_instances and self.instances is None:
            raise GeneratorError.naming("this generator is conditioned on instance features: give {features} FILE")
        if self.num_classes == 0:
            return None, None
        if y is None:
            what = "rows of instance features" if self.needs_instances else "classes"
            raise GeneratorError(f"this generator has {self.num_classes} {what}: synthesize needs y")
        if not self.needs_instances:
            return (F.one_hot(y, self.config.c_dim).float() if y.dim() == 1 else y.float()), None
        if y.dim() != 1:
            raise GeneratorError(f"y has shape {tuple(y.shape)}, wanted (B,), rows of the instance features")
        classes = None if self._labels is None or not self.config.c_dim else self._labels[y]
        return (None if classes is None else F.one_hot(classes, self.config.c_dim).float()), self._features[y]

    def mapping(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """f: Z -> W, before truncation. Shapes: z ``(B, z_dim)`` -> ``(B, w_dim)``."""
        return self.network.mapping(z, *self.conditions(y))

    def synthesize_w(self, ws: Tensor) -> Tensor:
        """Images for one w per layer. Shape: ``(B, num_ws, w_dim) -> (B, 3, H, W)``; a gray image is repeated to RGB."""
        images = self.network.synthesis(ws, self.noise)
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

    def broadcast(self, w: Tensor) -> Tensor:
        """One w per layer, with the generator's truncation. Shape: ``(B, w_dim) -> (B, num_ws, w_dim)``."""
        return self.network.broadcast(w, self.truncation, self.truncation_cutoff)

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``."""
        return self.synthesize_w(self.broadcast(self.mapping(z, y)))
