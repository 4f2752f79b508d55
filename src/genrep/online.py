"""The one place where training meets a generator, found at run time: ``genrep.generate.sources.online``."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

HOME = "genrep.generate.sources.online"


class OnlineSource(Protocol):
    """Makes any pairs of a recipe on its device."""

    image_shape: tuple[int, int]  # height, width
    num_positives: int
    classes: tuple[str, ...]  # names of the labels; empty: none
    labels: tuple[int, ...]  # that the pairs can have
    latent_shape: tuple[int, ...]  # of z_anchor
    fields: tuple[str, ...]  # anchor, positive, positive_1, …, z_anchor, z_positive, …, label, index
    recipe: dict[str, Any]  # resolved: all that the pairs are a function of, besides their indices
    identity: str  # sha256 of it: what a resumed run must share

    def batch(self, indices: NDArray[np.int64], fields: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The pairs with these indices; see ``batches``."""
        ...

    def batches(
        self, batches: Iterable[NDArray[np.int64]], fields: Sequence[str] | None = None
    ) -> Generator[dict[str, Tensor], None, None]:
        """Batch by batch: images uint8 ``(B, H, W, 3)``, latents float32 ``(B, …)``, ``label`` and ``index`` int64 ``(B,)``.

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
    """A source of pairs; the options are those of ``genrep.generate.sources.online.open_online``, and so are the errors."""
    source: OnlineSource = import_module(HOME).open_online(gen, **options)
    return source


def open_decoder(gen: str, **options: Any) -> Decoder:
    """A frozen generator as a function; options and errors are those of ``genrep.generate.sources.online.open_decoder``."""
    decoder: Decoder = import_module(HOME).open_decoder(gen, **options)
    return decoder
