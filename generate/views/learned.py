"""Views whose parameters were learned and are read from a file: steered walks and navigators.

The recipe holds the sha256 of the file's tensors and whatever else the positives depend on, never the file's path. The
file is read when it is first needed; a view rebuilt from a recipe needs none until it draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genrep import seeding
from genrep.errors import RecipeError, phrase
from genrep.files import canonical_json

from ..generators.base import LatentSpec
from .base import Draw, GeneratorFacts, View, ViewFile, affine, check_range, row_norms
from .walks import UNIFORMS, WALKS, LoadedWalks, load_walks

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedView(View):
    """Base of both views: ``digest`` identifies the parameters, the field ``file_key`` says where they are."""

    file_key: ClassVar[str]
    digest: str = ""

    @property
    def learned(self) -> bool:
        """Whether there is a file at all."""
        return True

    @property
    def latents_need_files(self) -> bool:
        """See ``View.latents_need_files``."""
        return True

    def learned_facts(self) -> dict[str, Any]:
        """The facts in the file; reads it."""
        raise NotImplementedError

    def files(self) -> tuple[ViewFile, ...]:
        """See ``View.files``."""
        raise NotImplementedError

    @cached_property
    def record(self) -> dict[str, Any]:
        """The JSON of the recipe. Raises WeightsError, or RecipeError if the file is not the one that is stated."""
        stated = super().to_json()
        path = stated.pop(self.file_key)
        if not self.learned:
            del stated["digest"]
            return stated
        if not path:
            if not self.digest:
                raise RecipeError(f"views {self.name}: needs {self.file_key}=FILE")
            return stated
        found = self.learned_facts()
        for field in fields(self):
            if field.name in found and getattr(self, field.name) not in (field.default, found[field.name]):
                raise RecipeError(
                    f"views {self.name}: {path} has {field.name} {found[field.name]}, "
                    f"the recipe states {getattr(self, field.name)}"
                )
        for key, value in found.items():
            stated[key] = None if isinstance(value, float) and math.isinf(value) else value
        return stated

    def to_json(self) -> dict[str, Any]:
        """See ``View.to_json``; reads the file."""
        return dict(self.record)

    def want_file(self, path: str) -> Path:
        """The file's path. Raises RecipeError if only its digest is known."""
        if not path:
            what = f" with the tensors {self.digest[:12]}…" if self.digest else ""
            raise RecipeError(f"views {self.name}: needs its file{what}: {self.name}:{self.file_key}=FILE")
        return Path(path)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, LearnedView) and self.record == other.record

    def __hash__(self) -> int:
        return hash(canonical_json(self.record))


@dataclass(frozen=True, kw_only=True, eq=False)
class SteeredView(LearnedView):
    """``z' = z + scale * sum_i α_i w_i``: the composed walks of GenRep (papers' "steer"), α drawn as ``walks.WALKS`` says."""

    name = "steered"
    file_key = "walks"
    walks: str = ""  # file, or folder that holds walks.safetensors
    only: str = ""  # "shift_x+zoom": these walks; all of the file's if empty
    scale: float = 1.0
    dim: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise RecipeError(f"views steered: scale={self.scale}, wanted a number")
        names = self.only.split("+") if self.only else []
        for name in names:
            if name not in WALKS or names.count(name) > 1:
                raise RecipeError(f"views steered: only={self.only}: wanted some of {'+'.join(WALKS)}, each once")
        object.__setattr__(self, "only", "+".join(name for name in WALKS if name in names))

    @cached_property
    def loaded(self) -> LoadedWalks:
        """The file's content. Raises WeightsError, RecipeError."""
        return load_walks(self.want_file(self.walks))

    def learned_facts(self) -> dict[str, Any]:
        """See ``LearnedView.learned_facts``; names the walks that are taken."""
        names = self.only.split("+") if self.only else [name for name in WALKS if name in self.loaded.walks]
        if missing := [name for name in names if name not in self.loaded.walks]:
            raise RecipeError(
                f"views steered: {self.walks} has no walk {missing[0]}, it holds {', '.join(self.loaded.walks)}"
            )
        return {"digest": self.loaded.file.digest, "dim": self.loaded.dim, "only": "+".join(names)}

    def files(self) -> tuple[ViewFile, ...]:
        """See ``View.files``."""
        return (self.loaded.file,) if self.walks else ()

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        if self.record["dim"] != latent.dim:
            raise RecipeError.naming(
                "{views} steered: its walks have {} components, the latent {}", self.record["dim"], latent.dim
            )

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        names = self.record["only"].split("+")
        u = seeding.uniforms(draw.seed, draw.indices, draw.stream, UNIFORMS)
        step = np.zeros(z.shape)
        for name in names:
            walk = WALKS[name]
            alphas = walk.alphas(u[:, walk.first : walk.first + walk.uniforms])
            for alpha, w in zip(alphas.T, self.loaded.walks[name].T):
                step += alpha[:, None] * w
        return (z + self.scale * step).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """T in NumPy: weights ``(in, out)`` and biases of its layers."""

    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    limit: float  # largest norm of T(z); infinite = no constraint
    facts: dict[str, Any]
    file: ViewFile


@dataclass(frozen=True, kw_only=True, eq=False)
class NavigatorView(LearnedView):
    """``z' = z + T(z)``, T learned against mutual information (COP-Gen section 3.3; HL), on the CPU (``base.affine``).

    T acts on the chunks that its file names, or on all of z; a file that names W layers gives them a z' of their own.
    """

    name = "navigator"
    file_key = "weights"
    weights: str = ""  # file, or run folder of fit-navigator
    dim: int = 0  # F, the components that T takes and moves
    activation: str = ""
    chunks: str = ""
    layers: str = ""
    max_distance: float = math.inf  # δ of the projection

    @cached_property
    def network(self) -> _Network:
        """The file's content. Raises WeightsError, RecipeError."""
        from ..generators.base import Checkpoint
        from .navigators import ROUNDING, load_walk

        loaded = load_walk(self.want_file(self.weights))
        walk, state = loaded.walk, loaded.walk.state_dict()
        delta = math.inf if walk.max_distance is None else walk.max_distance
        digest = Checkpoint(family="navigator/1", tensors=state).digest()
        arrays = [state[f"layers.{i}.{kind}"].numpy() for i in range(len(walk.layers)) for kind in ("weight", "bias")]
        return _Network(
            layers=tuple((np.ascontiguousarray(w.T), b) for w, b in zip(arrays[::2], arrays[1::2])),
            limit=delta * (1 - ROUNDING),
            facts={
                "digest": digest,
                "dim": walk.dim,
                "activation": walk.activation,
                "chunks": loaded.facts.chunks,
                "layers": loaded.facts.layers,
                "max_distance": delta,
            },
            file=ViewFile(digest=digest, path=loaded.path, sha256=loaded.sha256),
        )

    def learned_facts(self) -> dict[str, Any]:
        """See ``LearnedView.learned_facts``."""
        return self.network.facts

    def files(self) -> tuple[ViewFile, ...]:
        """See ``View.files``."""
        return (self.network.file,) if self.weights else ()

    @property
    def w_groups(self) -> tuple[tuple[int, int], ...]:
        """See ``View.w_groups``."""
        text = self.record["layers"]
        return (check_range(text, None, "views navigator: layers", "layers"),) if text else ()

    def span(self, latent: LatentSpec) -> tuple[int, int]:
        """First and end component of z that T moves. Raises RecipeError if T does not fit the latent."""
        chunks, dim = self.record["chunks"], self.record["dim"]
        start, stop = 0, latent.dim
        if chunks and latent.chunks:
            first, last = check_range(chunks, len(latent.chunks), phrase("{views} navigator: chunks"), "chunks")
            start, stop = sum(latent.chunks[:first]), sum(latent.chunks[: last + 1])
        if stop - start != dim:
            where = f"chunks {chunks} of the latent have" if chunks and latent.chunks else "the latent has"
            raise RecipeError.naming("{views} navigator: T moves {} components, {} {}", dim, where, stop - start)
        return start, stop

    def check(self, latent: LatentSpec, generator: GeneratorFacts) -> None:
        """See ``View.check``."""
        self.span(latent)
        if self.record["layers"]:
            if not generator.num_layers:
                raise RecipeError.naming("{views} navigator: T was learned for W layers, this generator has no W")
            check_range(self.record["layers"], generator.num_layers, phrase("{views} navigator: layers"), "layers")

    def shift(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """T(z). Shape: ``(B, F) -> (B, F)``; a row is the same bit for bit in any batch."""
        relu = self.record["activation"] == "relu"
        for i, (weight, bias) in enumerate(self.network.layers):
            if i and relu:
                np.maximum(z, 0, out=z)
            z = affine(z, weight, bias)
        if math.isfinite(self.network.limit):
            z *= (self.network.limit / np.maximum(row_norms(z), self.network.limit)).astype(np.float32)
        return z

    def transform(self, z: NDArray[np.float32], latent: LatentSpec, draw: Draw) -> NDArray[np.float32]:
        """See ``View.transform``."""
        start, stop = self.span(latent)
        moved = z.copy()
        moved[:, start:stop] += self.shift(z[:, start:stop])
        return moved[:, None] if self.w_groups else moved
