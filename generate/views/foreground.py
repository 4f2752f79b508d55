"""The two uses of a foreground (GenView, Li et al. 2024): noise levels by its ratio, and the weight of a pair by its quality.

``--weigh foreground=FILE,gamma=G`` is read here. A weight is ``exp(gamma q)``, where ``q = s_f - s_b`` is the cosine similarity
of the foregrounds of anchor and positive minus that of their backgrounds. Divided by its mean over a batch of B pairs, it is
GenView's ``B softmax(gamma q)``; with several positives q is the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import RecipeError

from .base import ViewFile, read_file_and_number

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from .foreground_network import Foreground, LoadedForeground

EDGES = (0.2, 0.4, 0.6, 0.8)  # ratios from which the noise level is the next hundred
STEP = 100  # of the noise level: 0 to 400
MAX_GAMMA = 100.0  # q is in [-2, 2]: a weight stays finite


def noise_levels(ratios: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """0, 100, 200, 300, 400 for ratios in [0, .2), [.2, .4), [.4, .6), [.6, .8), [.8, 1]. Shape: ``(B,) -> (B,)``.

    GenView's released script gives 500 at a ratio of exactly 1; its paper says 400 at most.
    """
    return STEP * np.searchsorted(EDGES, ratios, side="right").astype(np.float64)


@dataclass(frozen=True)
class ForegroundFile:
    """A file of ``fit-foreground``, read when it is first needed. A view and weights of the same file share its network."""

    path: Path

    @cached_property
    def loaded(self) -> LoadedForeground:
        """The file's content. Raises WeightsError."""
        found = self.path.stat() if self.path.is_file() else None
        return _load(self.path, found and (found.st_ino, found.st_size, found.st_mtime_ns))

    def on(self, device: torch.device) -> Foreground:
        """The network on a device. Raises WeightsError."""
        return _network(self.loaded, device)


@lru_cache(maxsize=2)
def _load(path: Path, state: object) -> LoadedForeground:
    """A file in this state: a build's parts ask for it many times, and it is large."""
    from .foreground_network import load_foreground

    return load_foreground(path)


@lru_cache(maxsize=2)
def _network(loaded: LoadedForeground, device: torch.device) -> Foreground:
    from .foreground_network import Foreground

    return Foreground(loaded, device)


class Weigher:
    """The weights of pairs on a device."""

    def __init__(self, foreground: Foreground, gamma: float) -> None:
        self.foreground, self.gamma = foreground, gamma

    def qualities(self, views: Sequence[Tensor]) -> Tensor:
        """q of pairs; anchors come first. Shapes: ``(B, H, W, 3)`` uint8 each -> ``(B,)`` float64."""
        return self.foreground.qualities(views[0], views[1:])

    def weights(self, qualities: Tensor) -> NDArray[np.float64]:
        """``exp(gamma q)``, one by one: vectorised exponentials differ in the last bit with a row's place. Shape: ``(B,)``."""
        return np.array([math.exp(self.gamma * q) for q in qualities.tolist()])


@dataclass(frozen=True, kw_only=True)
class WeighSpec:
    """``--weigh`` as given by the user; its file is read when it is first needed."""

    foreground: ForegroundFile
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= MAX_GAMMA:
            raise RecipeError.naming(
                "{weigh}: gamma={}, wanted a number above 0, at most {}", self.gamma, f"{MAX_GAMMA:g}"
            )

    def check(self, views: str, num_positives: int) -> None:
        """Raises RecipeError if there are no pairs, WeightsError if the file cannot be read."""
        if not num_positives:
            raise RecipeError.naming("{weigh}: weighs pairs, and {views} {} makes no positives", views)
        self.files()

    def open(self, device: torch.device) -> Weigher:
        """Ready to weigh on a device. Raises WeightsError."""
        return Weigher(self.foreground.on(device), self.gamma)

    def files(self) -> tuple[ViewFile, ...]:
        """The file that decides on the weights."""
        return (self.foreground.loaded.file,)

    def to_json(self) -> dict[str, Any]:
        """The form in a recipe: everything that weights depend on besides the images. Reads the file."""
        return {"foreground": self.foreground.loaded.file.digest, "gamma": self.gamma}


def parse_weigh(text: str) -> WeighSpec:
    """Read ``foreground=FILE,gamma=G``, in any order; gamma is 1 if it is not given.

    Raises:
        RecipeError: an unknown or repeated key, no file, or a gamma that is not a positive number.
    """
    path, gamma = read_file_and_number(
        text,
        "weigh",
        "foreground",
        "gamma",
        usual="1",
        shown="foreground=FILE or gamma=NUMBER",
        command="fit-foreground",
    )
    return WeighSpec(foreground=ForegroundFile(path), gamma=gamma)
