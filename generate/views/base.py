"""The base of latent views: their random streams, the chunks or layers they move, and the images of their latents.

At the end the sums that all views use: every rounding of theirs is the same in any batch and on any processor. Only
elementwise +, -, *, / and sqrt of NumPy are used, which IEEE 754 rounds exactly. A matrix product (or NumPy's own sum) picks
its order of additions by shape, processor and library: rows would change in the last bit with the batch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genrep import seeding
from genrep.errors import Phrase, RecipeError
from genrep.files import user_path

from ..generators.base import LatentSpec
from ..generators.calls import synthesize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The random streams of a batch's positives: pair ``indices`` (B,) and positive number ``k`` under ``seed``."""

    seed: int
    indices: NDArray[np.int64]
    k: int = 0

    @property
    def stream(self) -> int:
        """The seeding stream of positive k."""
        return seeding.POSITIVE + self.k

    def part(self, *names: int | str) -> Draw:
        """The same pairs under a key of the named part of a composed view: parts never share a random number."""
        return replace(self, seed=seeding.derive("view", self.seed, *names))

    def rows(self, rows: NDArray[np.int64]) -> Draw:
        """Some of the pairs, which draw the same numbers as among all."""
        return replace(self, indices=self.indices[rows])


@dataclass(frozen=True, kw_only=True)
class GeneratorFacts:
    """What a view needs to know about a generator besides its latent."""

    num_classes: int = 0  # 0 = unconditional
    num_layers: int = 0  # W inputs of the synthesis network, 0 = there is no W
    takes_prompts: bool = False
    edits: bool = False  # noises images and denoises them again
    varies: bool = False  # makes images with the content of others

    @classmethod
    def of(cls, generator: Any) -> GeneratorFacts:
        """The facts of a Generator."""
        return cls(
            num_classes=generator.num_classes,
            num_layers=generator.num_ws if hasattr(generator, "synthesize_w") else 0,
            takes_prompts=getattr(generator, "takes_prompts", False),
            edits=getattr(generator, "edit", None) is not None,
            varies=getattr(generator, "vary", None) is not None,
        )


@dataclass(frozen=True, kw_only=True)
class ViewFile:
    """A file that a view has learned parameters from."""

    digest: str  # hex sha256 of the tensors, whatever contains them: the identity
    path: Path
    sha256: str  # of the file


@dataclass(frozen=True, kw_only=True)
class View:
    """Base of all views: a name, its parameters, and one pure function of (anchor latents, draw)."""

    name: ClassVar[str]
    has_positive: ClassVar[bool] = True
    edits: ClassVar[str] = ""  # the generator's method that makes positives of the anchors' images: ``edit``, ``vary``
    changes_prompt: ClassVar[bool] = False

    @property
    def needs_classes(self) -> bool:
        """Whether the class or prompt is all that a positive shares with its anchor."""
        return False

    @property
    def w_groups(self) -> tuple[tuple[int, int], ...]:
        """First and last W layer of each group with a z' of its own; empty: one z' for the whole network."""
        return ()

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """Latents of the positives; row b depends on row b and its index alone.

        Shape: ``(B, d) -> (B, d)`` float32, or ``(B, G, d)`` for a view on G groups of W layers.
        """
        raise NotImplementedError

    @property
    def needs_images(self) -> bool:
        """Whether parameters follow from what ``look`` sees in the anchors' images."""
        return False

    def look(self, levels: Tensor) -> Floats:
        """What parameters follow from, of the anchors' images before encoding. Shape: ``(B, H, W, 3)`` uint8 -> ``(B,)``."""
        raise NotImplementedError

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """What ``parameters`` gives; known without images."""
        return ()

    def parameters(self, draw: Draw, seen: Floats | None = None) -> dict[str, Floats]:
        """What the view draws for each positive besides its latent, by the name of its field.

        Shape: ``(B,)`` each, as ``seen``, what ``look`` gave if the view needs images.
        """
        return {}

    @property
    def latents_need_files(self) -> bool:
        """Whether the positives' latents follow from a file of learned parameters."""
        return False

    def positive_shape(self, latent: LatentSpec) -> tuple[int, ...]:
        """Shape of one positive's latent: the latent's, or ``(G, d)`` for a view on G groups of W layers."""
        return (len(self.w_groups), latent.dim) if self.w_groups else latent.shape

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """Raises RecipeError, in one line, if this view does not work with such a generator."""
        if self.needs_classes and generator.num_classes == 0 and not generator.takes_prompts:
            raise RecipeError.naming(
                "{views} {}: needs a class-conditional generator or one of prompts, this one has no classes", self.name
            )

    def files(self) -> tuple[ViewFile, ...]:
        """The files that the view was read from."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """The view in the form of a recipe: everything that its positives depend on; null stands for infinity."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        infinite = {key for key, value in values.items() if isinstance(value, float) and math.isinf(value)}
        return {"name": self.name, **{key: None if key in infinite else value for key, value in values.items()}}


# Ranges of chunks and W layers: ``3``, or ``1-5`` with both ends included, counted from 0.


def parse_range(text: str, where: str | Phrase) -> tuple[int, int]:
    """First and last number of a range. Raises RecipeError, whose line begins with ``where``, if it is not a range."""
    return check_range(text, None, where, "")


def check_range(text: str, count: int | None, where: str | Phrase, what: str) -> tuple[int, int]:
    """First and last number of a range within ``count`` (None: any). ``where`` begins the error's line.

    Raises:
        RecipeError: it is not a range, or it goes beyond ``count``.
    """
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text, flags=re.ASCII)
    if match is None or int(match[1]) > int(match[2] or match[1]):
        raise RecipeError.naming("{} {!r}: wanted a number or a range such as 1-5", where, text)
    first, last = int(match[1]), int(match[2] or match[1])
    if count is not None and last >= count:
        raise RecipeError.naming("{} {}: this generator has {} 0 to {}", where, text, what, count - 1)
    return first, last


def read_file_and_number(
    text: str, setting: str, file: str, number: str, *, usual: str, shown: str, command: str
) -> tuple[Path, float]:
    """Read ``FILE_KEY=PATH,NUMBER_KEY=X``, in any order.

    Args:
        setting: that the text was given as.
        file, number: the two keys.
        usual: the number if it is not given.
        shown: both as a message shows them.
        command: that makes such files.

    Raises:
        RecipeError: an unknown or repeated key, no file, or what is no number.
    """
    values: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals or not value or key not in (file, number) or key in values:
            raise RecipeError.naming(f"{{{setting}}} {{!r}}: {{!r}} is not {shown}, each once", text, item)
        values[key] = value
    if file not in values:
        raise RecipeError.naming(f"{{{setting}}} {{!r}}: wanted {file}=FILE of {command}", text)
    try:
        found = float(values.get(number, usual))
    except ValueError:
        raise RecipeError.naming(
            f"{{{setting}}} {{!r}}: {number}={{!r}} is not a number", text, values[number]
        ) from None
    return user_path(values[file]), found


def show_range(first: int, last: int) -> str:
    """``1-5``, or ``3`` for one number."""
    return str(first) if first == last else f"{first}-{last}"


def synthesize_views(
    generator: Any,
    view: View,
    z_anchor: Tensor,
    z_positive: Tensor,
    y: Tensor | Sequence[str] | None,
    noise: seeding.StepNoise | None = None,
) -> Tensor:
    """Images of positives, differentiable in both latents.

    For a view on groups of W layers (HL): the anchor's w in every layer, truncated as the generator does it, but in the
    layers of group g that of ``z_positive[:, g]``. All latents go through the mapping network in one call.

    Shapes: z_anchor ``(B, d)``, z_positive ``(B, d)`` or ``(B, G, d)``, y as for ``Generator.synthesize`` ->
    ``(B, 3, H, W)``.
    """
    import torch

    groups = view.w_groups
    if not groups:
        return synthesize(generator, z_positive, y, noise)
    assert y is None or isinstance(y, torch.Tensor)  # networks with W layers know classes
    latents = torch.cat([z_anchor[:, None], z_positive], dim=1)  # (B, 1 + G, d)
    count = latents.shape[1]
    w = generator.mapping(latents.flatten(0, 1), None if y is None else y.repeat_interleave(count, dim=0))
    every = generator.broadcast(w)
    every = every.unflatten(0, (-1, count))  # (B, 1 + G, num_ws, w_dim)
    ws = every[:, 0].clone(memory_format=torch.contiguous_format)
    for group, (first, last) in enumerate(groups, start=1):
        ws[:, first : last + 1] = every[:, group, first : last + 1]
    images = generator.synthesize_w(ws)
    return images


# Rows are worked on in blocks, so that accumulator and products stay in the cache.
BLOCK_VALUES = 32_768

HALF_PI = 1.5707963267948966


def row_sums(values: Floats) -> Floats:
    """Sums over columns, by folding the right half onto the left. Shape: ``(B, n) -> (B, 1)``, n >= 1."""
    while (n := values.shape[1]) > 1:
        folded = values[:, : n // 2] + values[:, n // 2 : n // 2 * 2]
        if n % 2:
            folded[:, 0] += values[:, -1]
        values = folded
    return values


def row_norms(values: Floats) -> Floats:
    """Euclidean norms. Shape: ``(B, n) -> (B, 1)`` float64."""
    wide = values.astype(np.float64)
    return np.sqrt(row_sums(wide * wide))


def affine(x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """``x @ weight + bias`` in float32, accumulated over the input columns in their order, beginning with the bias.

    Shapes: x ``(B, I)``, weight ``(I, O)``, bias ``(O,)`` -> ``(B, O)``.
    """
    out = np.empty((len(x), len(bias)), dtype=np.float32)
    rows = max(1, BLOCK_VALUES // max(1, len(bias)))
    products = np.empty((min(rows, len(x)), len(bias)), dtype=np.float32)
    for start in range(0, len(x), rows):
        block = out[start : start + rows]
        columns = np.ascontiguousarray(x[start : start + rows].T)[:, :, None]  # (I, rows, 1)
        product = products[: len(block)]
        block[:] = bias
        for column, row in zip(columns, weight):
            np.multiply(column, row, out=product)
            np.add(block, product, out=block)
    return out


def sin_cos(angle: Floats) -> tuple[Floats, Floats]:
    """Sine and cosine of any angle of moderate size, in radians."""
    quarters = np.rint(angle / HALF_PI)
    sine, cosine = seeding.sin_cos(angle - quarters * HALF_PI)
    quarter = quarters.astype(np.int64) & 3
    swapped = np.where(quarter & 1, cosine, sine), np.where(quarter & 1, sine, cosine)
    return (
        np.where(quarter >= 2, -swapped[0], swapped[0]),
        np.where((quarter == 1) | (quarter == 2), -swapped[1], swapped[1]),
    )
