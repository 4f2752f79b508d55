"""A pipeline as a generator: noise in, images out, differentiable, with all random numbers from the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError

from ..base import LatentSpec
from .denoisers.base import Denoiser, rows_of
from .loop import Group, StepDraws, missing_noise, sample_rows, whole
from .schedules import Schedule
from .spaces import Space

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .denoisers.unclip import ImageEmbedder
    from .loop import Noise


class DiffusionGenerator:
    """A frozen pipeline. See ``Generator``; ``y`` is classes, prompts or None."""

    def __init__(
        self, networks: nn.ModuleDict, denoiser: Denoiser, space: Space, schedule: Schedule, dtype: torch.dtype
    ) -> None:
        self.networks, self.denoiser, self.space, self.schedule, self.dtype = networks, denoiser, space, schedule, dtype
        self.latent = LatentSpec(shape=space.shape)
        self.num_classes = denoiser.num_classes
        self.image_shape = space.image_shape
        self.takes_prompts = denoiser.takes_prompts
        self.draws_noise = schedule.draws
        self.allow_range = True

    def synthesize(self, z: Tensor, y: Any = None, *, noise: Noise | None = None) -> Tensor:
        """Images for noise.

        Shapes: z ``(B, *latent.shape)`` -> ``(B, 3, H, W)`` float32. ``noise``: of the steps, where ``draws_noise``.
        Raises GeneratorError for latents of another shape, a ``y`` that is no condition, or missing noise.
        """
        return self._from_noise(z, self.denoiser.conditions(y, len(z), z.device), noise)

    def _from_noise(self, z: Tensor, conditions: dict[str, Tensor], noise: Noise | None) -> Tensor:
        self._check(z)
        sample = z.to(self.dtype) * self.schedule.sigma
        return self._finish(whole(self.schedule, sample), conditions, noise)

    def _finish(self, groups: list[Group], conditions: dict[str, Tensor], noise: Noise | None) -> Tensor:
        def predict(sample: Tensor, t: Tensor, rows: Tensor | None) -> Tensor:
            return self.denoiser.predict(sample, t, rows_of(conditions, rows))

        if self.schedule.draws and noise is None:
            raise missing_noise()
        sample = sample_rows(self.schedule, groups, predict, StepDraws(noise))
        return self.space.decode(sample.to(self.dtype)).float()

    def _check(self, z: Tensor) -> None:
        if tuple(z.shape[1:]) != self.latent.shape:
            raise GeneratorError(
                f"latents of shape {tuple(z.shape)}, wanted (B, {', '.join(map(str, self.latent.shape))})"
            )


class EditingGenerator(DiffusionGenerator):
    """A pipeline whose scheduler can begin in the middle."""

    def edit(self, images: Tensor, z: Tensor, y: Any = None, *, strength: Tensor, noise: Noise | None = None) -> Tensor:
        """Images noised and denoised again (SDEdit, Meng et al. 2022); a row's strength says at which step it begins.

        Shapes: images ``(B, 3, H, W)`` in [-1, 1], z ``(B, *latent.shape)``, strength ``(B,)`` in (0, 1] ->
        ``(B, 3, H, W)`` float32. Raises GeneratorError for other shapes and strengths.
        """
        import torch

        self._check(z)
        if tuple(images.shape) != (len(z), 3, *self.image_shape):
            raise GeneratorError(
                f"images of shape {tuple(images.shape)}, wanted {(len(z), 3, *self.image_shape)}: those that it makes"
            )
        values = [float(value) for value in strength.tolist()]
        if len(values) != len(z) or not all(0 < value <= 1 for value in values):
            raise GeneratorError("strength: wanted a number above 0, at most 1, for each image")
        begins = torch.tensor([self.schedule.begin(value) for value in values])
        conditions = self.denoiser.conditions(y, len(z), z.device)
        clean, fresh = self.space.encode(images.to(self.dtype)), z.to(self.dtype)
        groups = []
        for begin in begins.unique().tolist():
            rows = torch.nonzero(begins == begin).flatten().to(z.device)
            alone = len(rows) == len(z)
            run = self.schedule.run(begin, middle=True)
            noised = run.noised(clean[rows], fresh[rows], self.schedule.timesteps[begin])
            groups.append(Group(begin, None if alone else rows, run, noised.to(self.dtype)))
        return self._finish(groups, conditions, noise)


class VaryingGenerator(DiffusionGenerator):
    """Stable unCLIP: images with the content of others."""

    def __init__(self, *parts: Any, embedder: ImageEmbedder) -> None:
        super().__init__(*parts)
        self.embedder = embedder
        self.draws_noise = True  # on the embeddings at least
        self.prompts_optional = True  # the image says what is to be seen

    def vary(
        self, images: Tensor, z: Tensor, y: Any = None, *, noise_level: Tensor, noise: Noise | None = None
    ) -> Tensor:
        """Images with the content of others (unCLIP, Ramesh et al. 2022).

        ``noise``: of step -1 on the embeddings, and of the steps where the scheduler draws some.
        Shapes: images ``(B, 3, H, W)`` in [-1, 1] of any size, noise_level ``(B,)`` int64 -> ``(B, 3, H', W')`` float32.
        Raises GeneratorError.
        """
        self._check(z)
        conditions = self.denoiser.conditions(y, len(z), z.device)
        shape = (len(images), self.embedder.width)
        drawn = StepDraws(noise).draw(-1, None, shape, self.dtype, z.device)
        conditions["image"] = self.embedder(images.to(z.device), noise_level.to(z.device), drawn)
        return self._from_noise(z, conditions, noise)
