"""Which encoder a command measures: ``--encoder`` or ``--random-init``, checked and opened in one way for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genrep.errors import WeightsError
from genrep.evaluate.settings import check_encoder_choice
from genrep.progress import note

if TYPE_CHECKING:
    from genrep.encoders import LoadedEncoder


def open_encoder(
    *,
    encoder: str | Path | None = None,
    random_init: bool = False,
    arch: str | None = None,
    stem: str = "imagenet",
    seed: int = 0,
    size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> LoadedEncoder:
    """The encoder of ``--encoder``, or an untrained one of ``--arch`` with this seed.

    What was assumed about a file, chosen in it or left out of it is said on stderr.

    Args:
        encoder: a run's folder, a checkpoint of a ResNet in any of the layouts that ``load_encoder`` knows, or
            ``package.module:factory``.
        size, mean, std: of the images, instead of what the file says or (where it says nothing) 224 and ImageNet's.

    Raises:
        ValueError: none of the two, both, or an ``arch`` that does not go with them.
        WeightsError: it cannot be read, is not complete, or holds what no training leaves.
    """
    from genrep.encoders import load_encoder, random_encoder

    check_encoder_choice(encoder=encoder, random_init=random_init, arch=arch, stem=stem)
    if encoder is not None:
        loaded = load_encoder(encoder, size=size, mean=mean, std=std)
        check_learned(loaded)
        _tell(loaded)
        return loaded
    assert arch is not None
    return random_encoder(arch, stem, seed, size=size, mean=mean, std=std)


def check_learned(encoder: LoadedEncoder) -> None:
    """Raise WeightsError for weights and statistics that no training leaves: not finite, or absurd (``genrep.runs.sanity``).

    A number measured with them would look like any other.
    """
    from genrep.runs.sanity import absurdity

    module = encoder.module
    statistics = {name: value for name, value in module.named_buffers() if "running_" in name}
    if found := absurdity({**dict(module.named_parameters()), **statistics}):
        raise WeightsError(
            f"{encoder.path}: {found}; wanted a trained encoder: the run that wrote it had diverged, or it is damaged"
        )


def _tell(encoder: LoadedEncoder) -> None:
    left_out = [f"left out: {', '.join(encoder.left_out)}"] if encoder.left_out else []
    for line in (*encoder.notes, *left_out):
        note(f"{encoder.path}: {line}")
