"""The family ``diffusers``: model folders of pretrained pipelines.

What ``fit-diffusion`` writes is one of them: a ``DiffusionPipeline`` of unet/ (UNet2DModel) and scheduler/. In its
model_index.json, the key ``genrep`` has ``null_class`` (the last class is the one of guidance), ``channels`` (1 or 3) and
``prediction`` (a word for people).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, GenRepError, WeightsError
from genrep.untrusted import content_faults, one_line, shown

from ..base import LoadedFolder
from .building import build, build_scheduler, library, used
from .denoisers.base import Denoiser
from .folder import ModelFolder
from .folder import open_folder as read_folder
from .generator import DiffusionGenerator, EditingGenerator, VaryingGenerator
from .identity import Identity
from .options import OPTIONS, Options
from .schedules import make_schedule
from .spaces import AutoencoderSpace, PatchSpace, PixelSpace, Space, vae_factor
from .text import ClipText, PromptCache, QwenText, read_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["FOLDER", "OPTIONS", "open_folder"]

FOLDER = True
LAW = 1  # of what the loop makes of a model; another number is another dataset
NETWORKS = ("unet", "transformer", "vae", "text_encoder", "image_encoder", "image_normalizer")
GENREP_KEYS = {"null_class", "prediction", "channels"}


def open_folder(
    folder: Path, *, device: str | torch.device = "cpu", only: Iterable[str] | None = None, **options: Any
) -> LoadedFolder:
    """The frozen generator in a model folder.

    Args:
        only: the files that may be read, relative to the folder; None = all.
        options: see ``Options``.

    Raises:
        WeightsError: the folder is not one that is known, or its files do not fit together.
        RecipeError: an option that is none, or that the model has no use for.
        GeneratorError: its scheduler draws noise that cannot be repeated.
    """
    given = Options(**options)
    library("diffusers")
    return _Opening(read_folder(folder, only), given, device).open()


class _Opening:
    """One folder on its way to a generator."""

    def __init__(self, folder: ModelFolder, options: Options, device: str | torch.device) -> None:
        import torch

        self.folder, self.options, self.device = folder, options, device
        self.dtype: torch.dtype = getattr(torch, options.dtype)
        self.identity = Identity(folder)
        self.where = f"weights {folder.path}"
        kind = folder.kind
        distilled = folder.index.get("is_distilled") is True
        self.steps = options.steps or (4 if distilled else kind.steps)
        self.guidance = kind.guidance if options.guidance is None else float(options.guidance)
        if distilled:
            options.refuse("guidance", "a distilled model takes none")
            self.guidance = 1.0
        self.negative = options.negative_prompt or ""

    def open(self) -> LoadedFolder:
        """Read, build, try."""
        import torch

        networks = torch.nn.ModuleDict({name: self._network(name) for name in NETWORKS if name in self.folder.classes})
        make: Callable[[nn.ModuleDict], DiffusionGenerator] = getattr(self, f"_{self.folder.kind.kind}")
        try:
            with content_faults(self.where, WeightsError):
                generator = make(networks)
        except WeightsError as error:  # of a part that does not know its folder
            text = str(error)
            raise error if text.startswith("weights ") else WeightsError(f"{self.where}: {text}") from None
        return LoadedFolder(
            generator=generator,
            digest=self.identity.digest(),
            config=self._config(generator),
            facts={"notes": list(dict.fromkeys(self.folder.notes))} if self.folder.notes else {},
        )

    def _config(self, generator: DiffusionGenerator) -> dict[str, Any]:
        """What an image depends on besides tensors and settings, with the model's own defaults filled in."""
        schedule = generator.schedule
        return {
            "pipeline": self.folder.pipeline,
            "law": LAW,
            **asdict(self.options),
            "steps": schedule.steps,
            "guidance": self.guidance,
            "scheduler": type(schedule.scheduler).__name__,
            "eta": schedule.eta,
            "height": generator.image_shape[0],
            "width": generator.image_shape[1],
            "negative_prompt": self.negative,
        }

    def _network(self, name: str) -> nn.Module:
        cls = self.folder.classes[name][1]
        tensors = used(self.folder.tensors(name), cls)
        self.identity.add_config(name, cls, self.folder.config(name))
        self.identity.add_tensors(name, tensors)
        try:
            return build(self.folder, name, tensors, self.dtype).to(self.device)
        except GenRepError:
            raise
        except (RuntimeError, NotImplementedError, MemoryError) as error:
            raise WeightsError(f"{self.folder.where(name)}: {one_line(str(error))}") from None

    def _scheduler(self, component: str = "scheduler", override: str | None = None) -> Any:
        config = self.folder.config(component, "scheduler_config.json")
        self.identity.add_config(component, self.folder.classes[component][1], config)
        return build_scheduler(self.folder, component, override)

    def _generator(
        self,
        networks: nn.ModuleDict,
        denoiser: Denoiser,
        space: Space,
        out_channels: int,
        told: dict[str, Any] | None = None,
    ) -> DiffusionGenerator:
        schedule = make_schedule(
            self._scheduler(override=self.options.scheduler),
            self.steps,
            eta=None if self.options.eta is None else float(self.options.eta),
            channels=(space.shape[0], out_channels),
            device=self.device,
            where=self.where,
            told=told,
        )
        kind = EditingGenerator if schedule.can_edit else DiffusionGenerator
        return kind(networks, denoiser, space, schedule, self.dtype)

    def _pixels(self, networks: nn.ModuleDict) -> DiffusionGenerator:
        from .denoisers.pixels import PixelDenoiser

        unet: Any = networks["unet"]
        own = self._own_key()
        for name in ("height", "width"):
            self.options.refuse(name, "the size of a model on pixels is its own")
        self.options.refuse("negative_prompt", "the model takes no prompts")
        denoiser = PixelDenoiser(unet, self.guidance, null_class=own.get("null_class") is True)
        if self.guidance > 1 and denoiser.null is None:
            self.options.refuse("guidance", "the model has no null class to lead away from")
        channels = int(unet.config.in_channels)
        if channels not in (1, 3) or own.get("channels", channels) != channels:
            raise WeightsError(f"{self.where}: unet has {channels} channels, wanted 1 or 3")
        size = unet.config.sample_size
        sides = (size, size) if isinstance(size, int) else size
        if not (isinstance(sides, (list, tuple)) and len(sides) == 2 and all(type(side) is int for side in sides)):
            raise WeightsError(f"{self.where}: unet has sample_size {shown(size)}, wanted pixels")
        return self._generator(networks, denoiser, PixelSpace(channels, *sides), int(unet.config.out_channels))

    def _own_key(self) -> dict[str, Any]:
        own = self.folder.index.get("genrep", {})
        if not isinstance(own, dict) or not own.keys() <= GENREP_KEYS:
            raise WeightsError(
                f"{self.where}: genrep in model_index.json is {shown(own)}; known: {sorted(GENREP_KEYS)}"
            )
        return own

    def _dit(self, networks: nn.ModuleDict) -> DiffusionGenerator:
        from .denoisers.dit import DitDenoiser

        transformer: Any = networks["transformer"]
        for name in ("height", "width"):
            self.options.refuse(name, "a DiT makes images of its own size")
        self.options.refuse("negative_prompt", "the model takes no prompts")
        if transformer.config.num_embeds_ada_norm is None or not isinstance(transformer.config.sample_size, int):
            raise WeightsError(f"{self.where}: transformer has no classes or no size")
        side = transformer.config.sample_size * vae_factor(networks["vae"])
        space = AutoencoderSpace(networks["vae"], (side, side), lambda sample, scale: 1 / scale * sample)
        channels = int(transformer.config.in_channels)
        if channels != space.shape[0]:
            raise WeightsError(f"{self.where}: transformer has {channels} channels, vae {space.shape[0]}")
        return self._generator(networks, DitDenoiser(transformer, self.guidance), space, channels)

    def _clip(self, networks: nn.ModuleDict) -> PromptCache:
        encoder: Any = networks["text_encoder"]
        self.identity.add_tokenizer("tokenizer", self.folder.tokenizer_files("tokenizer"))
        places = int(encoder.config.max_position_embeddings)
        tokenizer = read_tokenizer(self.folder, int(encoder.config.vocab_size), places)
        return PromptCache(ClipText(tokenizer, encoder))

    def _latent_space(self, networks: nn.ModuleDict) -> AutoencoderSpace:
        """Latents of the size that the options say, else of the network's own."""
        unet: Any = networks["unet"]
        factor, size = vae_factor(networks["vae"]), unet.config.sample_size
        sides = (size, size) if isinstance(size, int) else tuple(size or (64, 64))
        shape = self._size((sides[0] * factor, sides[1] * factor), factor)
        space = AutoencoderSpace(networks["vae"], shape, lambda sample, scale: sample / scale)
        if int(unet.config.in_channels) != space.shape[0]:
            raise WeightsError(
                f"{self.where}: unet has {unet.config.in_channels} channels, vae {space.shape[0]}; models that "
                "also take an image or a mask are not known"
            )
        return space

    def _size(self, own: tuple[int, int], multiple: int) -> tuple[int, int]:
        height, width = self.options.height or own[0], self.options.width or own[1]
        if height % multiple or width % multiple:
            raise GeneratorError(f"height {height}, width {width}: wanted multiples of {multiple} for this model")
        return height, width

    def _stable_diffusion(self, networks: nn.ModuleDict) -> DiffusionGenerator:
        from .denoisers.stable_diffusion import PromptDenoiser

        space, unet = self._latent_space(networks), networks["unet"]
        denoiser = PromptDenoiser(unet, self._clip(networks), self.guidance, self.negative)
        return self._generator(networks, denoiser, space, space.shape[0])

    def _unclip(self, networks: nn.ModuleDict) -> DiffusionGenerator:
        from .denoisers.unclip import ImageEmbedder, UnclipDenoiser

        space, unet = self._latent_space(networks), networks["unet"]
        denoiser = UnclipDenoiser(unet, self._clip(networks), self.guidance, self.negative)
        made = self._generator(networks, denoiser, space, space.shape[0])
        preprocessing = self.folder.config("feature_extractor", "preprocessor_config.json")
        self.identity.add_config("feature_extractor", "", preprocessing)
        noising = self._scheduler("image_noising_scheduler")
        embedder = ImageEmbedder(networks["image_encoder"], networks["image_normalizer"], noising, preprocessing)
        wanted = int(denoiser.unet.config.projection_class_embeddings_input_dim or 0)
        if 2 * embedder.width != wanted:
            raise WeightsError(f"{self.where}: unet takes embeddings of {wanted} values, wanted {2 * embedder.width}")
        return VaryingGenerator(networks, denoiser, space, made.schedule, self.dtype, embedder=embedder)

    def _flux2(self, networks: nn.ModuleDict) -> DiffusionGenerator:
        import numpy as np

        from .denoisers.flux2 import Flux2Denoiser, shift

        transformer, encoder = networks["transformer"], networks["text_encoder"]
        factor = vae_factor(networks["vae"])
        space = PatchSpace(networks["vae"], self._size((128 * factor, 128 * factor), 2 * factor))
        self.identity.add_tokenizer("tokenizer", self.folder.tokenizer_files("tokenizer"))
        settings: Any = encoder.config
        tokenizer = read_tokenizer(self.folder, int(settings.vocab_size), int(settings.max_position_embeddings))
        prompts = PromptCache(QwenText(tokenizer, encoder))
        denoiser = Flux2Denoiser(transformer, prompts, self.guidance, self.negative)
        sigmas = np.linspace(1.0, 1 / self.steps, self.steps)
        told = {"sigmas": sigmas, "mu": shift(space.shape[1] * space.shape[2], self.steps)}
        return self._generator(networks, denoiser, space, space.shape[0], told)
