"""The authors' released walks and navigators, read without executing anything in them (``genrep.unpickle``).

GenRep has two kinds of files. ``w_composed_final.pth`` of its training script holds ``walk_shiftx``, ``walk_color`` and so
on, which are ours but for their names and a first axis of one. The released BigGAN walk holds ``walk_jit`` (1, d, 4) and
``walk_rrc``, a perceptron of (z, a crop's box). Of these

* ``walk_rrc`` was never fitted: all its weights lie within the bound of a fresh ``nn.Linear``, and the script that
  names the file optimises ``walk_jit`` alone. It is left out.
* the first three columns of ``walk_jit`` were moved together, as ``ln(brightness) * (w_0 + w_1 + w_2)`` (the script
  takes brightness's factor where it means contrast's and saturation's, and the columns agree in all but their
  initial values): only their sum was fitted, and is ``brightness`` here.
* its last column is ``hue``.

COP-Gen's navigator is a pickled ``DataParallel`` around a ``Sequential`` of linear layers and ReLU.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import WeightsError
from genrep.files import sha256_file
from genrep.untrusted import label

from .walks import WALKS, save_walks

if TYPE_CHECKING:
    from torch import Tensor

COMPOSED = {
    "walk_rot3d": "rotate_3d",
    "walk_rot2d": "rotate_2d",
    "walk_zoom": "zoom",
    "walk_shiftx": "shift_x",
    "walk_shifty": "shift_y",
    "walk_color": "color",
}
LAYER = re.compile(r"(?:.*\.)?(\d+)\.(weight|bias)")
WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule")
INERT = ("Linear", "ReLU", "Sequential", "NonlinearWalk", "LinearWalk", "NonlinearWalker", *WRAPPERS)


def import_walk(path: Path, out: Path, *, chunks: str = "", layers: str = "") -> Path:
    """Convert a released walk or navigator to the safetensors file of ``steered`` or ``navigator``; returns ``out``.

    ``chunks`` ("1-5") and ``layers`` name the chunks of the latent or the W layers that a navigator was trained for.

    Raises:
        WeightsError: the file cannot be read, or holds neither.
    """
    from genrep.unpickle import read_file

    content = read_file(path)
    facts = {"source": path.name, "source_sha256": sha256_file(path)}
    if isinstance(content, dict):
        walks = {ours: content[theirs] for theirs, ours in COMPOSED.items() if theirs in content}
        if (walks or "walk_jit" in content) and (chunks or layers):
            raise WeightsError.naming(
                "{}: holds walks, which move the whole latent; {chunks} and {layers} are for navigators", path
            )
        if walks:
            return save_walks(out, {name: _walk(walk, name, path) for name, walk in walks.items()}, facts)
        if "walk_jit" in content:
            jitter = _array(content["walk_jit"], path, "walk_jit")
            if jitter.ndim != 3 or jitter.shape[0] != 1 or jitter.shape[2] != 4:
                raise WeightsError(f"{path}: walk_jit has shape {jitter.shape}, wanted (1, d, 4)")
            fitted = {"brightness": jitter[0, :, :3].sum(axis=1), "hue": jitter[0, :, 3]}
            return save_walks(out, fitted, facts)
    return _save_navigator(content, path, out, chunks, layers)


def _array(value: Any, path: Path, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A tensor or array as float32. Raises WeightsError for anything else and for values that are not finite."""
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().float().numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not np.isfinite(value).all():
        raise WeightsError(f"{path}: {name} is not an array of finite numbers")
    return value.astype(np.float32)


def _walk(value: Any, name: str, path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Convert one of GenRep's composed walks, (1, d) or (1, d, 3), to our form."""
    walk = _array(value, path, name)
    wanted = 3 if WALKS[name].strengths > 1 else 2
    if walk.ndim != wanted or walk.shape[0] != 1:
        raise WeightsError(f"{path}: {name} has shape {walk.shape}, wanted (1, d{', 3' if wanted == 3 else ''})")
    return walk[0]


def _save_navigator(content: Any, path: Path, out: Path, chunks: str, layers: str) -> Path:
    """Write the linear layers of a module, or of a state dict, as a navigator."""
    import torch

    from .navigators import Walk, WalkFacts, save_walk

    found = _linear_layers(content, path)
    numbers = sorted({number for number, _ in found})
    widths = _widths(found, numbers, path)
    # A Sequential numbers its ReLU too: layers 0 and 2 have one between them.
    gaps = {after - before for before, after in itertools.pairwise(numbers)}
    if not gaps <= {1} and not gaps <= {2}:
        raise WeightsError(f"{path}: linear layers number {numbers}, wanted a ReLU between all of them or none")
    with torch.device("meta"):  # no random weights, and no draws for them
        walk = Walk(widths, activation="relu" if gaps == {2} else "none")
    state = {f"layers.{i}.{kind}": found[n, kind].float() for i, n in enumerate(numbers) for kind in ("weight", "bias")}
    try:
        walk.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{path}: {str(error).splitlines()[-1].strip()}") from None
    save_walk(out, walk, WalkFacts(chunks=chunks, layers=layers))
    return out


def _linear_layers(content: Any, path: Path) -> dict[tuple[int, str], Tensor]:
    """Weights and biases by the layers' numbers. Raises WeightsError for anything beside one chain of such layers."""
    from genrep.state_dicts import bare, flatten

    held = flatten({"file": content}, str(path))  # which may be a module itself
    if unknown := {name.rpartition(".")[2] for name in held.classes.values()} - set(INERT):
        raise WeightsError(f"{path}: holds a module {label(sorted(unknown)[0])}, wanted linear layers and ReLU")
    found: dict[tuple[int, str], Tensor] = {}
    for name, tensor in held.tensors.items():
        match = LAYER.fullmatch(bare(name))
        if match is None or (int(match[1]), match[2]) in found:
            shown = label(name.removeprefix("file."))
            raise WeightsError(f"{path}: tensor {shown}: wanted the weights and biases of one chain of linear layers")
        found[int(match[1]), match[2]] = tensor
    return found


def _widths(found: dict[tuple[int, str], Tensor], numbers: list[int], path: Path) -> tuple[int, ...]:
    """F, the hidden widths, F. Raises WeightsError unless these are whole linear layers that end as wide as they begin."""
    shapes = [tuple(found[n, "weight"].shape) for n in numbers if (n, "weight") in found]
    fits = all(len(shape) == 2 for shape in shapes) and len(found) == 2 * len(shapes) == 2 * len(numbers)
    if not shapes or not fits or shapes[0][1] != shapes[-1][0]:
        raise WeightsError(f"{path}: neither walks nor linear layers from F values to F values")
    return (shapes[0][1], *(shape[0] for shape in shapes))
