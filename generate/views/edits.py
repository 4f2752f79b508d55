"""Views through the anchor's image or its prompt: what a positive shares with its anchor is not its latent.

The positive's latent is noise of its own, drawn from the generator's law. So these views also suit anchors that are real
images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genrep import seeding
from genrep.errors import RecipeError

from ..generators.base import LatentSpec
from .base import Draw, GeneratorFacts, View, ViewFile
from .foreground import ForegroundFile, noise_levels
from .learned import LearnedView

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.floating[Any]]

NUMBER = r"\d*\.?\d+"
RANGE = re.compile(rf"({NUMBER})(?:-({NUMBER}))?")
MAX_NOISE_LEVEL = 999  # of the thousand steps that Stable unCLIP noises embeddings by
AUTO = "auto"


def _read_range(view: str, key: str, text: str, most: float) -> tuple[float, float]:
    """The ends of ``LOW-HIGH``, or twice the one number. Raises RecipeError."""
    match = RANGE.fullmatch(text)
    low, high = (float(match[1]), float(match[2] or match[1])) if match else (-1.0, -1.0)
    if not 0 <= low <= high <= most:
        raise RecipeError.naming(
            "{views} {}: {}={}, wanted a number or LOW-HIGH from 0 to {}", view, key, text, f"{most:g}"
        )
    return low, high


@dataclass(frozen=True, kw_only=True)
class EditView(View):
    """Base of views whose positives a generator makes of the anchors' images."""

    parameter: ClassVar[str]  # what a pair draws, and the name of its field

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """See ``View.parameter_names``."""
        return (self.parameter,)

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """The noise that a positive is made with: independent of the anchor's. Shape: see ``View.transform``."""
        return latent.sample(draw.seed, draw.indices, draw.stream)

    def _uniform(self, draw: Draw, low: float, high: float) -> Floats:
        part = draw.part(self.name, self.parameter)
        drawn = seeding.uniforms(part.seed, part.indices, part.stream, 1)[:, 0]
        return low + (high - low) * drawn


@dataclass(frozen=True, kw_only=True)
class SdeditView(EditView):
    """The anchor's image, noised and denoised again (SDEdit, Meng et al. 2022).

    ``strength`` is the part of the sampler's steps that is repeated, above 0 and at most 1: at 1 only prompt and class are
    shared. ``LOW-HIGH`` draws it uniformly for each positive.
    """

    name = "sdedit"
    edits = "edit"
    parameter = "strength"
    strength: str = "0.5"

    def __post_init__(self) -> None:
        if _read_range(self.name, "strength", self.strength, 1.0)[0] <= 0:
            raise RecipeError.naming("{views} sdedit: strength={}, wanted numbers above 0", self.strength)

    def parameters(self, draw: Draw, seen: Floats | None = None) -> dict[str, Floats]:
        """See ``View.parameters``."""
        return {self.parameter: self._uniform(draw, *_read_range(self.name, "strength", self.strength, 1.0))}

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        if not generator.edits:
            raise RecipeError.naming(
                "{views} sdedit: needs a generator that denoises images, a diffusion or flow model"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class UnclipView(LearnedView, EditView):
    """An image with the content of the anchor's, from its embedding (Stable unCLIP; GenView).

    ``noise_level``, 0 to 999, is the step to which the embedding is noised: the higher, the less is shared. ``LOW-HIGH`` draws
    a whole number uniformly for each positive. With ``auto`` it is ``foreground.noise_levels`` of the part of the anchor's
    image that ``foreground``, a file of ``fit-foreground``, takes for foreground: the more of that, the higher.
    """

    name = "unclip"
    edits = "vary"
    parameter = "noise_level"
    file_key = "foreground"
    noise_level: str = "0"
    foreground: str = ""  # file, with auto

    def __post_init__(self) -> None:
        if self.learned:
            return
        if self.foreground or self.digest:
            raise RecipeError.naming(
                "{views} unclip: noise_level={}: foreground=FILE belongs to noise_level=auto", self.noise_level
            )
        low, high = _read_range(self.name, "noise_level", self.noise_level, MAX_NOISE_LEVEL)
        if not (low.is_integer() and high.is_integer()):
            raise RecipeError.naming("{views} unclip: noise_level={}, wanted whole numbers", self.noise_level)

    @property
    def learned(self) -> bool:
        """See ``LearnedView.learned``."""
        return self.noise_level == AUTO

    @property
    def needs_images(self) -> bool:
        """See ``View.needs_images``."""
        return self.learned

    @property
    def latents_need_files(self) -> bool:
        """The latents are noise of the pair's stream, whatever its level is."""
        return False

    @cached_property
    def file(self) -> ForegroundFile:
        """The file, not read yet. Raises RecipeError if only its digest is known."""
        return ForegroundFile(self.want_file(self.foreground))

    def learned_facts(self) -> dict[str, Any]:
        """See ``LearnedView.learned_facts``."""
        return {"digest": self.file.loaded.file.digest}

    def files(self) -> tuple[ViewFile, ...]:
        """See ``View.files``."""
        return (self.file.loaded.file,) if self.foreground else ()

    def look(self, levels: Tensor) -> Floats:
        """See ``View.look``: the part of each image that is foreground."""
        ratios: Floats = self.file.on(levels.device).ratios(levels).cpu().numpy()
        return ratios

    def parameters(self, draw: Draw, seen: Floats | None = None) -> dict[str, Floats]:
        """See ``View.parameters``."""
        if self.learned:
            assert seen is not None
            return {self.parameter: noise_levels(seen)}
        low, high = _read_range(self.name, "noise_level", self.noise_level, MAX_NOISE_LEVEL)
        return {self.parameter: np.floor(self._uniform(draw, low, high + 1))}

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        if not generator.varies:
            raise RecipeError.naming("{views} unclip: needs a generator that is conditioned on images (Stable unCLIP)")
        if self.learned:
            self.file.loaded  # noqa: B018  (without it there are no positives)


NOISES = ("new", "anchor")


@dataclass(frozen=True, kw_only=True)
class PromptsView(View):
    """Another prompt of the anchor's group.

    Several positives take different prompts while the group has any left. ``noise`` "new" draws the positive's latent anew,
    "anchor" keeps the anchor's.
    """

    name = "prompts"
    changes_prompt = True
    noise: str = "new"

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise RecipeError.naming("{views} prompts: noise={}, wanted one of {}", self.noise, ", ".join(NOISES))

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        return z.copy() if self.noise == "anchor" else latent.sample(draw.seed, draw.indices, draw.stream)

    def other_places(self, places: NDArray[np.int64], sizes: NDArray[np.int64], draw: Draw) -> NDArray[np.int64]:
        """Places of the positives' prompts within groups of these sizes (2 at least), from the anchors' places.

        The first positive's is uniform among the others, and each further one takes the next. Shapes: ``(B,) -> (B,)``.
        """
        first = Draw(seed=draw.seed, indices=draw.indices).part(self.name)
        drawn = seeding.uniforms(first.seed, first.indices, first.stream, 1)[:, 0]
        others = sizes - 1
        step = (np.floor(drawn * others).astype(np.int64) + draw.k) % others
        return (places + 1 + step) % sizes

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        if not generator.takes_prompts:
            raise RecipeError.naming("{views} prompts: needs a generator that takes prompts, and {prompts} FILE")
