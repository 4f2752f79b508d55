"""The protocols' command lines, and ``export``: a verb each, one library call each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrep.cli import print_config, say_leftovers, tell
from genrep.encoders import EXPORT_FORMATS
from genrep.errors import ConfigError
from genrep.option_types import PATH, Choice
from genrep.settings import configured, from_options, options

from .detection.config import DetectionConfig
from .few_label.command import few_label_command as few_label_command
from .finetune.config import FinetuneConfig
from .linear.config import LinearConfig
from .segmentation.command import segmentation_command as segmentation_command
from .settings import EncoderChoice, KnnConfig
from .transfer import TransferConfig
from .voc.config import Voc07Config

if TYPE_CHECKING:
    from .protocol import Results


@click.command("linear")
@configured(LinearConfig)
def linear_command(config: LinearConfig) -> None:
    """Train a linear probe on a frozen encoder and measure its accuracy on the test images.

    The result is the accuracy after the last epoch, never that of the best one. It is added to OUT/linear.json together with
    everything needed to repeat it. Running the same command again resumes an interrupted measurement, and a finished one is
    only printed.

    \b
    Presets:
      frozen        features of whole images, computed once; a learning rate from their scale
      genrep        GenRep's protocol: random crops and flips, 60 epochs
      cop-gen       COP-Gen's protocol: the same at 128 pixels
      hl            HL's protocol: the same crops, with learning rate 30
      vissl         VISSL's protocol, which COP-Gen uses for transfer
      simclr-lbfgs  SimCLR's protocol: logistic regression by L-BFGS
      dinov2        DINOv2's: class tokens of the last 1 or 4 blocks, with or without the mean of patches, at 13 rates
      dinov3        DINOv3's: class token and mean of patches, at 13 rates
      mae           MAE's: batch norm without gain and shift, LARS, 90 epochs at batch 16,384
      stablerep     StableRep's: ten rates, 90 epochs
      synclr        SynCLR's: the same behind batch norm

    Heads of several rates train side by side. The one that is reported is chosen on held-out training images, never on test
    images.

    \b
    Example:
      genrep-evaluate linear --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate linear --random-init --arch resnet18 --dataset cifar10 --root data --out runs/random --seed 0,1,2
      genrep-evaluate linear --encoder runs/x --preset genrep --dataset imagenet100 --root /data --out runs/x
    """
    from .linear.run import evaluate_linear

    result = evaluate_linear(config)
    _tell_results(result, [_linear_line(entry, result.already_done) for entry in result.entries])
    say_leftovers([config.out / "features"], "to measure again")


def _tell_results(result: Results, lines: Iterable[str]) -> None:
    """Tell a result file's entries, a line each, and their mean."""
    told = [f"{line}: {result.path}" for line in lines]
    if result.std is not None:
        told.append(f"mean of {len(result.entries)} seeds {result.mean:.2f} ± {result.std:.2f}")
    tell(_facts(result), told)


def _facts(result: Results) -> dict[str, Any]:
    return {
        "path": result.path,
        "already_done": result.already_done,
        "entries": result.entries,
        "mean": result.mean,
        "std": result.std,
    }


def _linear_line(entry: dict[str, Any], done: bool) -> str:
    protocol = entry["protocol"]
    parts = ["done before"] if done else []
    if "chosen" in entry:
        chosen = entry["chosen"]
        parts += [
            f"{chosen['features']}, lr {chosen['lr']:.3g}: best of {len(entry['grid'])} heads on held-out training images"
        ]
        parts += [f"{chosen['held_out']:.2f} there", f"last of {protocol['epochs']} epochs", f"seed {entry['seed']}"]
    elif "epochs" in protocol:
        parts += [f"last of {protocol['epochs']} epochs", f"batch {protocol['batch_size']}", f"lr {entry['lr']:.3g}"]
        parts += [f"seed {entry['seed']}; best epoch {entry['best_value']:.2f}"]
        parts += [f"lr {head['lr']:.3g}: {head['value']:.2f}" for head in entry["lr_grid"]]
    else:
        parts += [f"l2 {entry['l2']:.3g}", f"seed {entry['seed']}"]
    top5 = f", top-5 {entry['top5']:.2f}" if "top5" in entry else ""
    return (
        f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} % of {entry['n']} test images{top5} "
        f"({', '.join(parts)})"
    )


@click.command("knn")
@configured(KnnConfig)
def knn_command(config: KnnConfig) -> None:
    """Measure the accuracy of a k-nearest-neighbour classifier on a frozen encoder's features.

    Nothing is trained: the k training images with the largest cosine similarity vote for each test image (Wu et al. 2018, or
    DINOv3's rules with --preset dinov3). The result is added to OUT/knn.json together with everything needed to repeat it.

    \b
    Example:
      genrep-evaluate knn --encoder runs/x --dataset fashion_mnist --root data --out runs/x
      genrep-evaluate knn --encoder last.pth --dataset cars/ --size 112 --out results/genrep
    """
    from .knn import evaluate_knn

    result = evaluate_knn(config)
    entry = result.entry
    top5 = "" if entry["top5"] is None else f", top-5 {entry['top5']:.2f} %"
    line = (
        f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} %{top5} of {entry['n']} test images "
        f"({'done before; ' if result.already_done else ''}k {entry['protocol']['k']}, "
        f"temperature {entry['protocol']['temperature']:g})"
    )
    if "values" in entry:
        line += "; " + ", ".join(f"k {k}: {found['top1']:.2f}" for k, found in entry["values"].items())
    _tell_results(result, [line])
    say_leftovers([config.out / "features"], "to measure again")


@click.command(name="voc07")
@configured(Voc07Config)
def voc07_command(config: Voc07Config) -> None:
    """Measure Pascal VOC 2007 classification: one linear SVM per class on a frozen encoder's features.

    The cost of each class's SVM is chosen among 26 values by 3-fold cross-validation on the training images. The result is the
    mean average precision over the classes. It is added to OUT/voc07.json together with everything needed to repeat it.

    \b
    Example:
      genrep-evaluate voc07 --encoder runs/x --data VOCdevkit/VOC2007 --out runs/x
      genrep-evaluate voc07 --encoder runs/x --data VOCdevkit/VOC2007 --out runs/x --protocol genrep
    """
    from genrep.evaluate.voc.run import evaluate_voc07

    result = evaluate_voc07(config)
    entry = result.entry
    line = (
        f"{entry['dataset']} mAP {entry['value']:.2f} % (11-point {entry['values']['11point']:.2f}, area "
        f"{entry['values']['area']:.2f}) of {entry['n']} test images ({'done before; ' if result.already_done else ''}"
        f"{'/'.join(config.splits)}, {config.protocol}, seed {config.seed})"
    )
    _tell_results(result, [line])


@click.command("finetune")
@configured(FinetuneConfig)
def finetune_command(config: FinetuneConfig) -> None:
    """Fine-tune an encoder end to end on few labels, or on all, and measure its accuracy on the test images.

    The result is the accuracy after the last epoch. It is added to OUT/finetune.json. Running the same command again resumes
    an interrupted run.

    \b
    Presets:
      vissl         VISSL's for ImageNet with 1 % and 10 % of the labels, which COP-Gen uses: SGD, crops and flips
      mae           MAE's for ViT-B: AdamW, layer decay, mixup and CutMix, drop path, RandAugment, random erasing; 100 epochs
      synclr        SynCLR's for ViT-B/16: the same on the class token with lower rates, and a moving average of weights

    \b
    Example:
      genrep-evaluate finetune --encoder runs/x --dataset imagenet --root /data --labels 1% --out runs/x
      genrep-evaluate finetune --encoder runs/x --dataset photos/ --labels 20-per-class --out runs/x
      genrep-evaluate finetune --encoder runs/x --preset mae --dataset imagenet --root /data --out runs/x
    """
    from .finetune.run import evaluate_finetune

    result = evaluate_finetune(config)
    lines = []
    for entry in result.entries:
        top5 = f", top-5 {entry['top5']:.2f}" if "top5" in entry else ""
        told = f"last of {entry['protocol']['epochs']} epochs, lr {entry['lr']:.3g}, seed {entry['seed']}"
        told = f"done before; {told}" if result.already_done else told
        lines.append(
            f"{entry['dataset']} {entry['metric']} {entry['value']:.2f} % of {entry['n']} test images{top5} "
            f"({entry['protocol']['train_images']} labels, {told})"
        )
    _tell_results(result, lines)


FIRST = ("encoder", "random_init", "arch", "stem", "data", "test_data", "train_split", "test_split", "classes")


@click.command(name="detection")
@options(DetectionConfig, *FIRST)
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help="Folder whose detection.json receives the result. Required except with --export-detectron2.",
)
@options(DetectionConfig, without=FIRST)
@click.option(
    "--export-detectron2",
    type=PATH,
    metavar="FILE.pkl",
    help="Write the encoder as a checkpoint for detectron2, and train nothing.",
)
@click.option("--dry-run", is_flag=True, help="Print the settings as JSON and exit.")
def detection_command(dry_run: bool, export_detectron2: Path | None, **values: Any) -> None:
    """Fine-tune Faster R-CNN (R50-C4) end to end from an encoder and measure its average precision.

    The result is AP, AP50 and AP75 by VOC07's 11-point metric, as in the papers' tables. Those of VOC2010's and COCO's
    metrics are recorded beside them. All are added to OUT/detection.json. Running the same command again resumes at the last
    checkpoint. Under torchrun, each batch is split over the GPUs.

    \b
    Example:
      genrep-evaluate detection --encoder runs/x --data VOCdevkit/VOC2007 --data VOCdevkit/VOC2012 --out runs/x
      genrep-evaluate detection --random-init --arch resnet18 --preset small --data BCCD --out runs/random
      genrep-evaluate detection --encoder runs/x --export-detectron2 x.pkl
    """
    if export_detectron2 is not None:
        _export_detectron2(export_detectron2, values)
        return
    for name in ("data", "out"):
        if not values[name]:
            raise click.UsageError(f"Missing option '--{name}'.")
    config = from_options(DetectionConfig, values)
    if dry_run:
        print_config(config.to_json())
        return
    from genrep.evaluate.detection.run import evaluate_detection

    result = evaluate_detection(config)
    values = result.entry["values"]
    if values and result.folder is not None:  # in the first process only
        voc, coco = values["voc07"], values["coco"]
        line = (
            f"{result.entry['dataset']} AP {voc['AP']:.2f} AP50 {voc['AP50']:.2f} AP75 {voc['AP75']:.2f} % (VOC07), "
            f"COCO {coco['AP']:.2f} {coco['AP50']:.2f} {coco['AP75']:.2f} % of {result.entry['n']} test images "
            f"({'done before; ' if result.already_done else ''}{config.preset}, seed {config.seed})"
        )
        _tell_results(result, [line])
        say_leftovers([result.folder / "checkpoint.pt"], "to test the detector otherwise")


def _export_detectron2(path: Path, options: dict[str, Any]) -> None:
    from genrep.encoders import export_encoder
    from genrep.encoders.export import check_export
    from genrep.evaluate.settings import open_encoder

    try:
        choice = EncoderChoice(**{one.name: options[one.name] for one in fields(EncoderChoice)})
        choice.check_choice()
        check_export(path, "detectron2")
    except ConfigError as error:
        raise click.UsageError(error.in_shell({"out": "--export-detectron2"})) from error
    arch = export_encoder(open_encoder(choice, seed=options["seed"]).module, path, "detectron2")
    tell(
        {"path": path, "arch": arch, "format": "detectron2"},
        f"{path}: {arch} for detectron2 (MODEL.WEIGHTS; STRIDE_IN_1X1 False, FORMAT RGB)",
    )


@click.command("transfer")
@configured(TransferConfig)
def transfer_command(config: TransferConfig) -> None:
    """Measure an encoder by linear probes on all datasets of a paper's transfer table.

    Suite cop-gen is COP-Gen's Table 2, by VISSL's protocol. Suite hl is HL's Tables 3 and 4. Datasets that are not under ROOT
    are skipped, and the command says how to get each. The results are added to OUT/transfer.json.

    \b
    Example:
      genrep-evaluate transfer --encoder runs/x --suite cop-gen --root /data --out runs/x --seed 0,1,2
    """
    from .transfer import evaluate_transfer

    result = evaluate_transfer(config)
    skipped = {name: reason.in_shell() for name, reason in result.skipped.items()}
    tell(
        {
            "path": result.path,
            "datasets": {name: _facts(found) for name, found in result.results.items()},
            "skipped": skipped,
        },
        [result.table(), *(f"skipped: {reason}" for reason in skipped.values()), f"results: {result.path}"],
    )


@click.command("export")
@options(EncoderChoice, "encoder", "network", "heads", "act_layer")
@click.option(
    "--format",
    "format_",
    required=True,
    type=Choice(list(EXPORT_FORMATS)),
    help="Library whose key names and file format to write.",
)
@click.option(
    "--out",
    required=True,
    type=PATH,
    metavar="FILE",
    help="New file, ending in .pth or .pt (torchvision, timm), .safetensors (timm) or .pkl (detectron2).",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export_command(format_: str, out: Path, force: bool, **choice: Any) -> None:
    """Write an encoder as a checkpoint for torchvision, timm or detectron2.

    The whole encoder is written, or nothing: a network that the library does not build is refused. Vision transformers are
    written for timm.

    \b
    Example:
      genrep-evaluate export --encoder runs/x --format timm --out resnet50.safetensors
      genrep-evaluate export --encoder last.pth --format detectron2 --out r50.pkl
    """
    from genrep.encoders import export_encoder
    from genrep.encoders.export import check_export
    from genrep.errors import ResumeError

    from .settings import open_encoder

    try:
        if choice["encoder"] is None:
            raise ConfigError.naming("{encoder}: wanted an encoder to export")
        check_export(out, format_)
    except ConfigError as error:
        raise click.UsageError(error.in_shell()) from error
    if out.exists() and not force:
        raise ResumeError.naming("{out} {}: exists; wanted a new file, or {force} to replace it", out)
    loaded = open_encoder(EncoderChoice(**choice))
    arch = export_encoder(loaded.module, out, format_, loaded.facts)
    tell({"path": out, "arch": arch, "format": format_}, f"{arch} for {format_}: {out}")
