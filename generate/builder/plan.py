"""What a build will do, resolved before anything is written: the manifest's recipe, and the shards' index ranges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.datasets_manifest.schema import field_table
from genrep.errors import RecipeError
from genrep.files import digest_json

from ..generators.load import LoadedGenerator
from ..pixels import default_encoding, parse_encoding
from ..recipe import Recipe, latent_spec
from ..views import View, parse_view

DEFAULT_SHARD_BYTES = 512_000_000
DEFAULT_MIN_SHARDS = 16
JPEG_BYTES_PER_PIXEL = (
    0.5  # assumed when a shard's size in bytes becomes pairs, so that it follows from the recipe alone
)
MAX_POSITIVES = 64
UNITS = {"KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of ``genrep-generate dataset``. None leaves the choice to the recipe or the machine."""

    gen: str = "stylegan2_fashion"
    out: Path = Path("shards")
    num_pairs: int = 10_000
    views: str | None = None
    num_positives: int = 1
    encoding: str | None = None
    shard_size: str | None = None  # "4096" pairs or "512MB"
    seed: int = 0
    weights: str | None = None
    # From here on: how, not what. None of it changes a latent.
    batch_size: int = 64
    device: str = "auto"
    processes: int | None = None
    threads: int = 1  # of each process

    def __post_init__(self) -> None:
        for name, minimum in (("num_pairs", 1), ("num_positives", 1), ("batch_size", 1), ("threads", 1), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: wanted at least {minimum}")
        if self.num_positives > MAX_POSITIVES:
            raise RecipeError(f"--num-positives {self.num_positives}: wanted at most {MAX_POSITIVES}")
        if self.seed >= 1 << 63:
            raise RecipeError(f"--seed {self.seed}: wanted less than 2**63")
        if self.processes is not None and self.processes < 1:
            raise RecipeError(f"--processes {self.processes}: wanted at least 1")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard that is to be built: pairs ``first_index`` .. ``first_index + count - 1``."""

    number: int
    first_index: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The resolved recipe and all that follows from it."""

    recipe: dict[str, Any]
    views: View
    num_positives: int  # 0 without a view
    classes: tuple[str, ...]
    height: int
    width: int
    pairs_per_shard: int

    @property
    def id(self) -> str:
        """The dataset's identity: sha256 of the recipe."""
        return digest_json(self.recipe)

    @property
    def num_pairs(self) -> int:
        """Pairs in the whole dataset."""
        return int(self.recipe["num_pairs"])

    @property
    def num_shards(self) -> int:
        """Shards in the whole dataset."""
        return -(-self.num_pairs // self.pairs_per_shard)

    def shard(self, number: int) -> Shard:
        """The range of one shard; only the last may be shorter."""
        first = number * self.pairs_per_shard
        return Shard(number=number, first_index=first, count=min(self.pairs_per_shard, self.num_pairs - first))

    def field_table(self) -> list[dict[str, Any]]:
        """The manifest's ``fields``, in the order in which a shard holds them."""
        return field_table(
            (self.height, self.width),
            self.recipe["image"]["encoding"],
            num_positives=self.num_positives,
            z_anchor=self.recipe["latent"]["shape"],
        )


def make_plan(config: BuildConfig, recipe: Recipe, loaded: LoadedGenerator) -> Plan:
    """Resolve a build.

    Raises:
        RecipeError: options that contradict each other or the generator.
    """
    generator = loaded.generator
    views = parse_view(config.views) if config.views is not None else recipe.views
    if views.needs_classes and generator.num_classes == 0:
        raise RecipeError(f"--views {views.name}: needs a class-conditional generator, {recipe.name} has no classes")
    height, width = _cropped_shape(recipe, generator.image_shape)
    encoding = config.encoding or recipe.encoding or default_encoding(height, width)
    quality = parse_encoding(encoding)
    latent = latent_spec(recipe, generator.latent)
    num_positives = config.num_positives if views.has_positive else 0
    bytes_per_pair = pair_bytes(height, width, quality, latent.dim, 1 + num_positives)
    pairs_per_shard = shard_pairs(config.shard_size, config.num_pairs, bytes_per_pair)
    resolved = {
        "generator": {
            "name": recipe.name,
            "family": recipe.family,
            "weights": loaded.weights_digest,
            "options": recipe.options,
            "precision": "fp32",
        },
        "latent": latent.to_json(),
        "views": views.to_json(),
        "num_positives": num_positives,
        "classes": list(range(generator.num_classes)),
        "image": {
            "height": height,
            "width": width,
            "crop": list(recipe.crop) if recipe.crop else None,
            "uint8": recipe.uint8,
            "encoding": encoding,
        },
        "num_pairs": config.num_pairs,
        "pairs_per_shard": pairs_per_shard,
        "seed": config.seed,
    }
    return Plan(
        recipe=resolved,
        views=views,
        num_positives=num_positives,
        classes=class_names(recipe, generator.num_classes),
        height=height,
        width=width,
        pairs_per_shard=pairs_per_shard,
    )


def class_names(recipe: Recipe, count: int) -> tuple[str, ...]:
    """The recipe's names of the generator's classes, or their numbers."""
    if recipe.class_names and len(recipe.class_names) != count:
        raise RecipeError(
            f"recipe {recipe.name}: {len(recipe.class_names)} class_names, the generator has {count} classes"
        )
    return recipe.class_names or tuple(str(number) for number in range(count))


def _cropped_shape(recipe: Recipe, shape: tuple[int, int]) -> tuple[int, int]:
    if recipe.crop is None:
        return shape
    top, left, height, width = recipe.crop
    if height < 1 or width < 1 or top + height > shape[0] or left + width > shape[1]:
        raise RecipeError(f"recipe {recipe.name}: crop {list(recipe.crop)} does not lie inside {shape[0]}x{shape[1]}")
    return height, width


def pair_bytes(height: int, width: int, quality: int | None, dim: int, images: int) -> float:
    """Bytes of one pair in a shard, tables included: exact for raw images, an assumption for JPEG."""
    image = height * width * 3 if quality is None else height * width * JPEG_BYTES_PER_PIXEL
    tables = images * (16 + 24) + images * (8 + 24) + 16
    return images * (image + 4 * dim) + tables


def shard_pairs(size: str | None, num_pairs: int, bytes_per_pair: float) -> int:
    """Pairs in a shard from ``--shard-size``: a number of pairs, or of bytes with a unit; by default at least 16 shards.

    Raises:
        RecipeError: the size is neither, or zero.
    """
    if size is None:
        by_count = max(1, num_pairs // DEFAULT_MIN_SHARDS)
        return min(by_count, max(1, int(DEFAULT_SHARD_BYTES // bytes_per_pair)))
    match = re.fullmatch(r"(\d{1,12})(KB|MB|GB)?", size)
    if match is None or int(match[1]) == 0:
        raise RecipeError(f"--shard-size {size!r}: wanted a number of pairs, or of bytes like 512MB")
    if match[2] is None:
        return min(int(match[1]), num_pairs)
    return min(max(1, int(int(match[1]) * UNITS[match[2]] // bytes_per_pair)), num_pairs)
