"""The only imports of the tree that point up, from a lower folder to a higher one. They are made on first use.

Training, repair and verification read shards and need no generator, except for a few verbs, which find it here. ``REACHED``
lists all of them. A lab that only has the shards lacks these verbs and nothing else.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .settings import config, setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

REACHED = {
    "open_online": "genrep.generate.sources.online",  # genrep-train --online
    "open_decoder": "genrep.generate.sources.decoder",  # the autoencoder objective
    "build_shards": "genrep.generate.build.regeneration",  # genrep-manifest repair, rebuild
    "stored_pairs": "genrep.generate.build.regeneration",  # genrep-manifest verify --regenerate
    "latents": "genrep.generate.sources.latents",  # latents that a dataset leaves to its recipe
}


def _reach(name: str) -> Any:
    return getattr(import_module(REACHED[name]), name)


class OnlineSource(Protocol):
    """Makes any pairs of a recipe on its device."""

    image_shape: tuple[int, int]  # height, width
    num_positives: int
    classes: tuple[str, ...]  # names of the labels; empty: none
    labels: tuple[int, ...]  # that the pairs can have
    latent_shape: tuple[int, ...]  # of z_anchor
    fields: tuple[str, ...]  # as of a dataset: anchor, positive, …, z_anchor, …, strength, …, label, index, prompt, …
    floats: tuple[str, ...]  # those of them that are numbers with a fraction
    turn: int  # pair i has prompt or real anchor i modulo this many; 0: it has neither
    recipe: dict[str, Any]  # resolved: all that the pairs are a function of, besides their indices
    identity: str  # sha256 of it: what a resumed run must share

    def batch(self, indices: NDArray[np.int64], fields: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The pairs with these indices; see ``batches``."""
        ...

    def batches(
        self, batches: Iterable[NDArray[np.int64]], fields: Sequence[str] | None = None
    ) -> Generator[dict[str, Tensor], None, None]:
        """Batch by batch: images uint8 ``(B, H, W, 3)``, latents float32 ``(B, …)``, numbers ``(B,)``, int64 or float32.

        All on the source's device but ``index``, which is in host memory. Images that no field names are not made.

        Raises:
            GeneratorError: the generator failed, now or, on a GPU, in an earlier batch.
        """
        ...

    def check(self) -> None:
        """Wait for the images made so far. Raises GeneratorError if one is not finite or far out of range."""
        ...


class Decoder(Protocol):
    """A frozen generator as a function."""

    latent_shape: tuple[int, ...]  # of one latent
    image_shape: tuple[int, int]  # height, width
    num_classes: int  # 0: labels are not looked at

    def __call__(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images, differentiable in z.

        Shapes: z ``(B, *latent_shape)`` float, labels ``(B,)`` int64 -> ``(B, 3, H, W)`` float, nominally in [-1, 1].
        """
        ...


def open_online(gen: str, **options: Any) -> OnlineSource:
    """Open a source of pairs. Options and errors are those of ``genrep.generate.sources.online.open_online``."""
    source: OnlineSource = _reach("open_online")(gen, **options)
    return source


def open_decoder(gen: str, **options: Any) -> Decoder:
    """A frozen generator as a function. Options and errors are those of ``genrep.generate.sources.decoder.open_decoder``."""
    decoder: Decoder = _reach("open_decoder")(gen, **options)
    return decoder


@config
class RegenerationConfig:
    """Settings that a manifest lacks or that replace its own. None takes the manifest's or the machine's value."""

    gen: str | None = setting(
        default=None,
        metavar="NAME|FILE.toml|MODULE:FACTORY",  # code, which is never run on a manifest's word
        help="Generator to use if the manifest's name cannot be resolved.  [default: the manifest's]",
    )
    weights: str | None = setting(
        default=None,
        metavar="FILE",
        help="Weights file of the generator, if they neither ship with the package nor can be fetched.  "
        "[default: the recipe's]",
    )
    features: str | None = setting(
        default=None,
        metavar="FILE",
        help="Instance-features file of the generator (IC-GAN).  [default: the manifest's]",
    )
    views: str | None = setting(
        default=None,
        metavar="NAME:KEY=VALUE,...",
        help="View, if it was learned; names its file.  [default: the manifest's]",
    )
    filter: str | None = setting(
        default=None,
        metavar="keep=PART,weights=FILE",
        help="Filter, if the dataset has one; names its file.  [default: the manifest's]",
    )
    weigh: str | None = setting(
        default=None,
        metavar="foreground=FILE[,gamma=G]",
        help="What weighs the pairs, if they are weighed; names its file.  [default: the manifest's]",
    )
    prompts: Path | None = setting(
        default=None,
        metavar="FILE",
        help="Prompts that the dataset was made from.  [default: the folder's prompts.jsonl]",
    )
    anchors: str | None = setting(
        default=None, metavar="DIR|NAME", help="Real images that are the dataset's anchors.  [default: none]"
    )
    root: Path | None = setting(
        default=None, metavar="DIR", help="Folder that holds the named set of --anchors, or that --download puts it in."
    )
    download: bool = setting(default=False, help="Download the named set of --anchors if it is not under --root.")
    device: str = setting(
        default="auto", text=True, help="Device to generate on. auto: the kind that was used, if it is here."
    )
    batch_size: int | None = setting(
        default=None, least=1, most=1_000_000, help="Images per generator call.  [default: what was used]"
    )
    processes: int | None = setting(
        default=None, least=1, help="Number of processes.  [default: one per core; one on a GPU]"
    )


def build_shards(manifest: dict[str, Any], numbers: Sequence[int], out: Path, config: RegenerationConfig) -> None:
    """Build these shards of a manifest (its JSON, checked) with their records in the folder ``out``; shards that are done
    there stay. No manifest is written.

    Raises:
        GenRepError: the recipe cannot be followed here (says what differs or lacks), or the generator failed.
    """
    _reach("build_shards")(manifest, numbers, out, config)


def stored_pairs(
    manifest: dict[str, Any], indices: Sequence[int], config: RegenerationConfig
) -> Iterator[tuple[int, dict[str, NDArray[np.uint8]]]]:
    """The bytes that a shard would hold of these pairs, in any order: index, and by field's name (images, latents, label)
    uint8 of shape ``(size,)``; images are encoded, numbers little-endian.

    Raises GenRepError as ``build_shards``.
    """
    found: Iterator[tuple[int, dict[str, NDArray[np.uint8]]]] = _reach("stored_pairs")(manifest, indices, config)
    return found


def latents(
    manifest: dict[str, Any], indices: NDArray[np.int64], names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Latents of pairs, computed from the recipe of a manifest (its JSON, checked) without the generator.

    Args:
        names: of latent fields, such as ``z_anchor`` and ``z_positive``.

    Returns float32 by name, of shape ``(B, *shape)`` as the field table states it. Raises GenRepError if the recipe alone does
    not determine them.
    """
    found: dict[str, NDArray[np.float32]] = _reach("latents")(manifest, indices, names)
    return found
