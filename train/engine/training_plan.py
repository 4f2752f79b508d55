"""From what was asked for to what will be done: the settings of a run with every default and derived value filled in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import torch

from genrep.devices import pick_device, pick_precision
from genrep.encoders import PATCH, EncoderFacts, architecture, build_encoder
from genrep.encoders.networks import Encoder
from genrep.errors import DatasetError, TrainingError
from genrep.files import sha256_file
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD

from ..config import TrainConfig
from ..config.objective import OBJECTIVE_OPTIONS
from ..config.optimiser import DEFAULT_EPOCHS
from ..contract import FREE, RUN_VERSION, VERSION
from ..data.loader import default_workers
from ..data.order import subset_size
from ..objectives import option_defaults, takes_local_crops
from .optimiser import DEFAULTS, Schedule
from .pair_weights import check_weight_field
from .samples import SampleFacts, open_samples

SMALL_IMAGE = 64  # up to here crops are as large as the stored images
LARGE_CROP = 112  # GenRep and HL, from 128-px images
REFERENCE_BATCH = 256  # that ``lr`` is stated for
WARMUP_EPOCHS = 10  # GenRep, above the reference batch


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A resolved run: its settings, none left open, then facts of the samples and numbers derived from both."""

    config: TrainConfig
    steps_per_epoch: int
    processes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dataset_id: str
    image_shape: (
        tuple[int, int] | None
    )  # height, width of the stored images; None: several, which the loader cuts to ``crop``
    num_views: int  # images of each sample that the network sees
    num_pairs: int  # trained on
    dropped_per_epoch: int  # pairs of the incomplete last batch
    total_steps: int
    warmup_steps: int
    lr_scaled: float  # the schedule's peak

    @property
    def positive(self) -> str:
        """The source of the second view; ``anchor`` if there is none."""
        assert self.config.positive is not None
        return self.config.positive

    @property
    def crop(self) -> int:
        """Side of the images that the network sees."""
        assert self.config.crop is not None
        return self.config.crop

    @property
    def views_per_step(self) -> int:
        """Images that go through the network in an update, over all processes; local crops are not counted."""
        return self.num_views * self.config.batch_size

    def schedule_of_rates(self) -> Schedule:
        """The learning rate by steps."""
        return Schedule(
            kind=self.config.schedule,
            peak=self.lr_scaled,
            floor=self.config.lr_floor,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )

    def encoder_facts(self) -> EncoderFacts:
        """The facts for the encoder's file."""
        config = self.config
        stem = PATCH if architecture(config.arch).is_vit else config.stem
        model = config.transformer()
        return EncoderFacts(arch=config.arch, stem=stem, size=self.crop, mean=self.mean, std=self.std, model=model)

    def settings(self) -> dict[str, Any]:
        """The config's settings and what was derived from them, on one level."""
        return {**vars(self.config), **{name: value for name, value in vars(self).items() if name != "config"}}

    def to_json(self) -> dict[str, Any]:
        """The content of config.json."""
        value: dict[str, Any] = json.loads(json.dumps(self.settings(), default=str))
        value[VERSION] = RUN_VERSION
        weights = self.config.weights
        if self.config.objective == "autoencoder" and weights is not None and weights.is_file():
            value["weights_sha256"] = sha256_file(weights)  # its targets, wherever the file lies
        return value

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        return {name: item for name, item in self.to_json().items() if name not in FREE}


def resolve(
    config: TrainConfig, facts: SampleFacts | None = None, device: torch.device | None = None, processes: int = 1
) -> TrainingPlan:
    """Settle every setting.

    Defaults: ``positive`` is ``stored`` where the set has positives, else ``anchor``; ``crop`` is the stored size (of images
    of several sizes the median of their shorter sides) up to 64 px, 112 above (at most the stored size); 20 epochs; a
    warm-up only above batch 256, of 10 epochs or a tenth of the run; rate and weight decay are the optimiser's
    (``optimiser.DEFAULTS``).

    Args:
        facts: of the samples; None: opens them.

    Raises:
        GenRepError: the dataset is missing, unfinished or damaged, or has not what the settings want of it.
        TrainingError: the settings make no training.
    """
    device = device or pick_device(config.device)
    facts = facts or open_samples(config, device).facts
    num_pairs = subset_size(facts.count, config.limit)
    steps_per_epoch, dropped = divmod(num_pairs, config.batch_size)
    if not steps_per_epoch:
        where = ", ".join(map(str, config.folders))
        raise TrainingError.naming(
            "{batch_size} {}: {} gives {} pairs, less than one batch", config.batch_size, where, num_pairs
        )
    total_steps = config.steps or (config.epochs or DEFAULT_EPOCHS) * steps_per_epoch
    warmup_epochs = _warmup_epochs(config, total_steps / steps_per_epoch)
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if warmup_steps >= total_steps:
        raise TrainingError.naming(
            "{warmup_epochs} {:g}: {} of {} steps, wanted fewer", warmup_epochs, warmup_steps, total_steps
        )
    lr, weight_decay = DEFAULTS[config.optimizer]
    lr = config.lr or lr
    positive, num_views = _views(config, facts)
    check_weight_field(config, facts, positive)
    settled = {
        **_objective_options(config),
        "positive": positive,
        "epochs": None if config.steps else config.epochs or DEFAULT_EPOCHS,
        "lr": lr,
        "weight_decay": weight_decay if config.weight_decay is None else config.weight_decay,
        "warmup_epochs": warmup_epochs,
        "crop": config.crop or _default_crop(facts.shorter_side),
        "device": device.type,
        "precision": _precision(config.precision, device),
        "workers": config.workers or default_workers(),
    }
    if config.local_crops and not takes_local_crops(config.objective):
        raise TrainingError.naming(
            "{local_crops} {}: {objective} {} has no use for them; leave them out", config.local_crops, config.objective
        )
    settled["local_size"] = _local_size(config, settled["crop"]) if config.local_crops else None
    _check_parts(config, processes, device)
    config = replace(config, **settled)
    _check_network(config)
    return TrainingPlan(
        config=config,
        steps_per_epoch=steps_per_epoch,
        processes=processes,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        dataset_id=facts.identity,
        image_shape=facts.image_shape,
        num_views=num_views,
        num_pairs=num_pairs,
        dropped_per_epoch=dropped,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        lr_scaled=lr * config.batch_size / REFERENCE_BATCH,
    )


def build_network(config: TrainConfig) -> Encoder:
    """The encoder of settled settings, as its seed begins it. Raises WeightsError: they make none."""
    return build_encoder(
        config.arch,
        config.stem,
        config.seed,
        zero_init_residual=config.zero_init_residual,
        size=config.crop,
        model=config.transformer(),
        drop_path=config.drop_path,
    )


def _check_network(config: TrainConfig) -> None:
    """Raises WeightsError or TrainingError, before a folder is made, unless the network can be built."""
    with torch.device("meta"):
        multiple = build_network(config).side_multiple
    if config.local_size is not None and config.local_size % multiple:
        raise TrainingError.naming(
            "{local_size} {}: wanted a multiple of the patches' {} pixels", config.local_size, multiple
        )


def _objective_options(config: TrainConfig) -> dict[str, Any]:
    """The objective's options with its own defaults filled in. Raises TrainingError for one that it has not."""
    known = option_defaults(config.objective)
    for name in config.objective_options():
        if name not in known:
            options = ", ".join(f"{{{option}}}" for option in known) or "none"
            raise TrainingError.naming(
                f"{{{name}}}: {{objective}} {{}} has no such option; it has {options}", config.objective
            )
    return {name: known.get(name) for name in OBJECTIVE_OPTIONS} | config.objective_options()


def _views(config: TrainConfig, facts: SampleFacts) -> tuple[str, int]:
    """The kind of positive, and the number of images of each sample that the network sees."""
    from ..objectives import is_single_view

    if is_single_view(config.objective):
        return "anchor", 1
    if config.positive not in (None, "anchor") and not facts.num_positives:
        online, where = "{views} {}", ", ".join(map(str, config.folders))
        raise DatasetError.naming(
            f"{{positive}} {{}}: {'{}' if where else online} stores anchors only; use {{positive}} anchor",
            config.positive,
            where or config.views,
        )
    positive = config.positive or ("stored" if facts.num_positives else "anchor")
    if positive == "anchor" and config.pixel_views == "none":
        raise TrainingError.naming(
            "{positive} anchor with {pixel_views} none: the two views of a pair would be the same image"
        )
    return positive, 1 + (facts.num_positives if positive == "all" else 1)


def _check_parts(config: TrainConfig, processes: int, device: torch.device) -> None:
    """Raises TrainingError if a batch cannot be shared as asked."""
    from ..objectives import compares_samples

    parts = processes * config.accumulate
    if config.batch_size % parts or config.batch_size // parts < 2:
        raise TrainingError.naming(
            "{batch_size} {}: {} processes times {accumulate} {} require a multiple of {}, at least {}",
            config.batch_size,
            processes,
            config.accumulate,
            parts,
            2 * parts,
        )
    sinkhorn = _objective_options(config)["centring"] == "sinkhorn"  # looks at all rows of a batch
    if config.accumulate > 1 and (sinkhorn or compares_samples(config.objective)):
        raise TrainingError.naming(
            "{accumulate} {}: {objective} {} compares the samples of a batch, and parts would change it; "
            "wanted 1; use more processes instead",
            config.accumulate,
            config.objective,
        )
    if config.sync_batchnorm and processes > 1 and device.type != "cuda":
        raise TrainingError.naming(
            "{sync_batchnorm}: PyTorch supports it on GPUs only; turn it off, or use {device} cuda"
        )


def _precision(name: str, device: torch.device) -> str:
    if name == "fp16" and device.type != "cuda":
        raise TrainingError.naming("{precision} fp16: requires a GPU; use bf16 or fp32 on a CPU")
    return pick_precision(name, device)


def _warmup_epochs(config: TrainConfig, epochs: float) -> float:
    if config.warmup_epochs is not None:
        return config.warmup_epochs
    return min(WARMUP_EPOCHS, epochs / 10) if config.batch_size > REFERENCE_BATCH else 0.0


PATCH_OF_NAME = re.compile(r"patch(\d+)")


def _local_size(config: TrainConfig, crop: int) -> int:
    """The side of local crops: by default 3/7 of the global ones', of whole patches for a vision transformer."""
    if config.local_size is not None:
        return config.local_size
    arch, side = architecture(config.arch), 1
    if arch.is_vit:
        named = PATCH_OF_NAME.search(arch.name)
        side = config.patch_size or (int(named[1]) if named else 16)
    return max(1, round(crop * 3 / 7 / side)) * side


def _default_crop(side: int) -> int:
    return side if side <= SMALL_IMAGE else min(side, LARGE_CROP)
