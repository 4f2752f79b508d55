"""Named settings: every number of a row of the papers, for ``--preset``; method_presets.py has those of other works.

``lr`` is the rate at batch 256; a run's peak is in proportion to its batch size, as in all three papers. A preset never
names the dataset: a row's latent views are the shards', and its variants are options over the preset (``--pixel-views
none`` for a row without T_x, ``--positive anchor`` for one without T_z).

GenRep, COP-Gen and HL's SimCLR multiply InfoNCE by τ / base τ = 0.1 / 0.07 = 1.43, and their rates and weight decays belong
to that. The presets keep the effective step by multiplying too (``base_temperature``): the loss is then in the papers'
units, chance level 1.43 ln(2 B - 1), and the metric ``unscaled_loss`` is the equation's. Without ``base_temperature`` the
same updates would take lr · 1.43 and weight_decay / 1.43.

Unlike this trainer, the papers' code also trains on an epoch's incomplete last batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from genrep.errors import ConfigError, DataError, one_of, suggestion
from genrep.files import user_path
from genrep.untrusted import MAX_TEXT, parse_toml, read_bounded

from .config import TrainConfig
from .method_presets import METHODS

Settings = dict[str, Any]

# GenRep (Jahanian et al. 2022) and its code; COP-Gen (Li et al. 2022) starts from the same code.
_GENREP: Settings = {
    "arch": "resnet50",  # section 4
    "stem": "imagenet",  # networks/resnet_big.py: 7x7 of stride 2, max-pooling
    "zero_init_residual": False,  # networks/resnet_big.py: its default, never set
    "optimizer": "sgd",  # main_unified.py; without Nesterov
    "lr": 0.03,  # section 4
    "momentum": 0.9,  # main_unified.py
    "weight_decay": 1e-4,  # main_unified.py; on batch norm and biases as well
    "schedule": "cosine-by-epoch",  # util.py: one rate per epoch e = 1 … E, floor + (lr - floor) (1 + cos(π e / E)) / 2
    "lr_floor": 1e-3,  # part of the peak: decay rate 0.1, cubed
    "warmup_epochs": 0,  # only above batch 256
    "batch_size": 256,  # section 4
    "positive": "stored",  # one neighbour per anchor in the tables
    "pixel_views": "simclr",  # crop .2-1, flip, jitter .4 .4 .4 .1, grayscale; no blur
    "crop": 112,  # main_unified.py (the paper says 128)
    "sync_batchnorm": False,  # DataParallel: statistics per device
}
_INFO_NCE: Settings = {"temperature": 0.1, "base_temperature": 0.07}  # losses.py
_IN1K: Settings = {"epochs": 20}  # 1.3 M anchors: 5078 updates an epoch
_IN100: Settings = {"epochs": 200}  # 130 K anchors: 507 updates an epoch
_INVERTER: Settings = {"objective": "inverter", "pixel_views": "none"}  # the paper: no augmentation; centre crop

_COP_GEN: Settings = {
    **_GENREP,
    **_INFO_NCE,
    "objective": "simclr",
    "batch_size": 224,  # section 4; the peak is .03 · 224 / 256 = .02625
    "crop": 128,  # section 4: 128 px, uncropped
    "centre": 112,  # main_unified.py: rows without T_x or crops see the middle 112 px, enlarged to 128
}

# HL (Hierarchical-Latent Generative Models Are Robust View Generators for Contrastive Representation Learning) and its code,
# which takes SimSiam's numbers (Chen & He 2021) but for the floor.
_HL: Settings = {
    "arch": "resnet50",
    "stem": "imagenet",
    "optimizer": "sgd",
    "lr": 0.05,  # configurations/encoders/*: base_lr, times batch / 256
    "momentum": 0.9,
    "weight_decay": 1e-4,  # on every parameter
    "schedule": "cosine",  # per update
    "lr_floor": 0.1,  # simsiam/model.py, byol/model.py: a tenth of the peak (SimSiam itself: 0)
    "epochs": 100,
    "positive": "stored",
    "pixel_views": "no-color",  # HL's own views; the baselines' rows use simclr
    "crop": 112,  # batch_management.py, from 128-px images
    "sync_batchnorm": True,  # train_encoder.py
}
_HL_BIGBIGAN: Settings = {
    "batch_size": 1024,  # the peak is .05 · 4 = .2
    "warmup_epochs": 10,  # from batch 1024 on
}
_HL_STYLEGAN2: Settings = {
    "batch_size": 512,  # the peak is .05 · 2 = .1
    "warmup_epochs": 0,
}
_SIMSIAM: Settings = {"objective": "simsiam", "zero_init_residual": True}  # simsiam/model.py

# Sets of the embedded generators: 32-px images, minutes on a CPU. This project's own choices.
_SMALL: Settings = {
    **_GENREP,
    **_INFO_NCE,
    **_IN1K,
    "arch": "resnet18",
    "crop": 32,  # the whole image's size
}

_PRESETS: dict[str, tuple[str, Settings]] = {
    "genrep-in1k": (
        "GenRep, unconditional on 1.3 M anchors (Table 1)",
        {"objective": "simclr", **_GENREP, **_INFO_NCE, **_IN1K},
    ),
    "genrep-in1k-conditional": (
        "GenRep, class-conditional on 1.3 M anchors (Table 3), as the paper has it",
        {"objective": "supcon", **_GENREP, **_INFO_NCE, **_IN1K},
    ),
    "genrep-in1k-conditional-released": (
        "GenRep, the same with the learning rate of the released encoder",
        {"objective": "supcon", **_GENREP, **_INFO_NCE, **_IN1K, "lr": 0.01},  # paths_to_models.md
    ),
    "genrep-in1k-inverter": (
        "GenRep, inverter on 1.3 M unconditional samples (Table 1)",
        {**_GENREP, **_IN1K, **_INVERTER},
    ),
    "genrep-in1k-inverter-conditional": (
        "GenRep, inverter of latents and classes (Table 3)",
        {**_GENREP, **_IN1K, **_INVERTER, "class_head": True},
    ),
    "genrep-in100": (
        "GenRep, unconditional on 130 K anchors (Table 4)",
        {"objective": "simclr", **_GENREP, **_INFO_NCE, **_IN100},
    ),
    "genrep-in100-conditional": (
        "GenRep, class-conditional on 130 K anchors (Table 5)",
        {"objective": "supcon", **_GENREP, **_INFO_NCE, **_IN100},
    ),
    "genrep-in100-classifier": (
        "GenRep, classifier on 130 K samples (Table 6)",
        {"objective": "classifier", **_GENREP, "epochs": 60},  # run_repr_classifier.sh of the branch dev
    ),
    "cop-gen-in1k": ("COP-Gen on 1.3 M anchors (Table 1)", {**_COP_GEN, "epochs": 100}),  # section 4
    "cop-gen-in100": ("COP-Gen's ablations on 130 K anchors (Tables 3-5)", {**_COP_GEN, "epochs": 200}),  # section 4
    "hl-simclr": (
        "HL, SimCLR by COP-Gen's code on HL's views (Table 2)",
        {**_COP_GEN, "epochs": 100, "pixel_views": "no-color"},
    ),
    "hl-simsiam-bigbigan": ("HL, SimSiam on BigBiGAN (Table 2)", {**_HL, **_HL_BIGBIGAN, **_SIMSIAM}),
    "hl-simsiam-stylegan2": ("HL, SimSiam on StyleGAN2 LSUN-car (Table 3)", {**_HL, **_HL_STYLEGAN2, **_SIMSIAM}),
    "hl-byol": (
        "HL's later journal version, BYOL on StyleGAN2 LSUN-car",
        {
            **_HL,
            **_HL_STYLEGAN2,
            "objective": "byol",
            "zero_init_residual": False,  # byol/model.py: torchvision's default
            "target_momentum": 0.996,
            "target_schedule": "constant",
        },
    ),
    **METHODS,
    "small-simclr": ("ours, for stylegan2_fashion: SimCLR", {"objective": "simclr", **_SMALL}),
    "small-supcon": ("ours, for stylegan2_fashion_cond: SupCon", {"objective": "supcon", **_SMALL}),
    "small-simsiam": (
        "ours, for stylegan2_fashion: SimSiam",
        {**_HL, **_SIMSIAM, "arch": "resnet18", "batch_size": 256, "warmup_epochs": 0, "epochs": 20, "crop": 32}
        | {"pixel_views": "simclr", "sync_batchnorm": False},
    ),
}

DESCRIPTIONS = MappingProxyType(
    {name: text for name, (text, _) in _PRESETS.items()}
)  # name -> a line for the help text


def preset(name: str) -> Settings:
    """The settings of a preset: option names with ``_`` for ``-``, and values that TOML and JSON can hold; the caller's own.

    Raises:
        ConfigError: the name is unknown. Lists the known names.
    """
    if name not in _PRESETS:
        raise ConfigError.naming("{preset} {!r}: wanted one of {}", name, one_of(name, _PRESETS))
    return {key: list(value) if isinstance(value, list) else value for key, value in _PRESETS[name][1].items()}


def read_preset(source: str) -> Settings:
    """A preset by name, or the settings of a TOML file in the same form.

    Raises:
        ConfigError: no such name or file, or a setting that ``genrep-train`` has not; names it.
    """
    if not source.endswith(".toml"):
        return preset(source)
    try:
        settings = parse_toml(read_bounded(user_path(source), MAX_TEXT, DataError, follow=True), source, DataError)
    except DataError as error:
        reason = str(error).removeprefix(f"{user_path(source)}: ").removeprefix(f"{source}: ")
        raise ConfigError.naming("{preset} {}: cannot be read ({})", source, reason) from error
    types = get_type_hints(TrainConfig)
    for name, value in settings.items():
        if name not in types.keys() - {"out"}:
            raise ConfigError.naming(
                "{preset} {}: unknown setting {!r}; wanted names of genrep-train's options with _{}",
                source,
                name,
                suggestion(name, types),
            )
        if not _is_of(value, types[name]):
            kind = types[name]  # a union has a __name__ from Python 3.14 on, which is "Union"
            wanted = (
                str(kind).removesuffix(" | None")
                if isinstance(kind, UnionType)
                else getattr(kind, "__name__", str(kind))
            )
            raise ConfigError.naming("{preset} {}: {} is {!r}; wanted {}", source, name, value, wanted)
    return settings


def _is_of(value: object, wanted: Any) -> bool:
    """Whether what TOML holds is of a setting's type; paths are strings there, and whole numbers do for others."""
    if options := get_args(wanted):
        if get_origin(wanted) in (Sequence, tuple):
            return isinstance(value, list) and all(_is_of(item, options[0]) for item in value)
        return any(_is_of(value, option) for option in options)
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    held: Any = {float: (int, float), Path: str}.get(wanted, wanted)
    return isinstance(value, held)
