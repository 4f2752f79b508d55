"""Training objectives: losses and the heads that they need, one module each.

    base.py        Objective (the interface), Setup (what one is built from), Output, Step (what DDP wraps)
    simclr.py dcl.py supcon.py multi_positive.py mocov3.py simsiam.py byol.py nnclr.py negative_feature_transform.py
    lejepa.py      no teacher and no negatives: a law that embeddings have
    dino.py ibot.py synclr.py   a teacher's distributions over prototypes; distillation.py and masks.py are what they share
    inverter.py     the inverter, the classifier and the autoencoder
    pairs.py       similarities between all views of all samples of all ranks, what they tell; gathering, with gradients
    heads.py       what stands on an encoder, and what follows it

A step, in this order, on every rank with equally many samples:

    output = step(images, batch, i)                       # Step(encoder, objective), wrapped in DDP or not
    output.loss.backward(); objective.after_backward(encoder, i); optimiser.step()
    objective.after_step(encoder, i, total_steps)         # moving averages and queues

The mean over the ranks of ``output.loss``, and its gradient, is that of one process with the whole batch.
This module itself is light: it holds the names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genrep.errors import TrainingError, one_of
from genrep.imports import lazy

if TYPE_CHECKING:
    from .base import Objective, Output, Setup, Step

__all__ = ["OBJECTIVES", "Objective", "Output", "Setup", "Step", "build_objective", "option_names"]

OBJECTIVES = {  # name -> module (of this package, or with a dot of anywhere), class
    "simclr": ("simclr", "SimCLR"),
    "dcl": ("dcl", "DCL"),
    "dclw": ("dcl", "DCLW"),
    "supcon": ("supcon", "SupCon"),
    "multi-positive": ("multi_positive", "MultiPositive"),
    "mocov3": ("mocov3", "MoCoV3"),
    "dino": ("dino", "DINO"),
    "ibot": ("ibot", "IBOT"),
    "synclr": ("synclr", "SynCLR"),
    "lejepa": ("lejepa", "LeJEPA"),
    "simsiam": ("simsiam", "SimSiam"),
    "byol": ("byol", "BYOL"),
    "nnclr": ("nnclr", "NNCLR"),
    "negative-feature-transform": ("negative_feature_transform", "NegativeFeatureTransform"),
    "inverter": ("inverter", "Inverter"),
    "classifier": ("inverter", "Classifier"),
    "autoencoder": ("inverter", "Autoencoder"),
}


def option_names(name: str) -> tuple[str, ...]:
    """The options that an objective has. Raises TrainingError for an unknown name."""
    return tuple(option_defaults(name))


def option_defaults(name: str) -> dict[str, Any]:
    """The options that an objective has, with their defaults. Raises TrainingError for an unknown name.

    They are the keyword arguments of a class, or the fields of its ``Options``.
    """
    from inspect import signature

    kind = _find(name)
    if (options := getattr(kind, "Options", None)) is not None:
        return {parameter.name: parameter.default for parameter in signature(options).parameters.values()}
    parameters = list(signature(kind.__init__).parameters.values())[2:]
    return {parameter.name: parameter.default for parameter in parameters}


def is_single_view(name: str) -> bool:
    """Whether an objective looks at the anchor alone."""
    single: bool = _find(name).num_views == 1
    return single


def compares_samples(name: str) -> bool:
    """Whether the loss compares the samples of a batch (``Objective.negatives_in_batch``)."""
    found: bool = _find(name).negatives_in_batch
    return found


def weighs_pairs(name: str) -> bool:
    """Whether pairs can have weights in the loss (``Objective.weighs_pairs``)."""
    found: bool = _find(name).weighs_pairs
    return found


def takes_local_crops(name: str) -> bool:
    """Whether local crops take part in the loss (``Objective.takes_local_crops``)."""
    found: bool = _find(name).takes_local_crops
    return found


def build_objective(name: str, setup: Setup, **options: Any) -> Objective:
    """An objective with its heads on the CPU, drawn from ``setup.seed``; the global random state stays as it was.

    Build it before the encoder is compiled, wrapped or moved: some keep a copy of it.

    Raises:
        TrainingError: an unknown name or option, a value out of range, or a dataset that lacks what the objective needs.
    """
    import torch

    from genrep.seeding import derive  # NumPy

    kind, known = _find(name), option_names(name)
    for option in options:
        if option not in known:
            names = one_of(option, known) if known else "none"
            raise TrainingError.naming("{objective} {}: has no option {!r}; it has {}", name, option, names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("objective", setup.seed))
        return kind(setup, kind.Options(**options)) if hasattr(kind, "Options") else kind(setup, **options)


def _find(name: str) -> Any:
    if name not in OBJECTIVES:
        raise TrainingError.naming("{objective} {!r}: wanted one of {}", name, one_of(name, OBJECTIVES))
    module, kind = OBJECTIVES[name]
    return getattr(import_module(module if "." in module else f".{module}", __name__), kind)


__getattr__ = lazy(__name__, dict.fromkeys(("Objective", "Output", "Setup", "Step"), "base"))
