"""Commands that train: ``fit-gan``, and through a frozen generator ``fit-steer``, ``fit-navigator``, ``fit-filter``.

Those that measure the results are ``measure-delta``, ``compare-navigator`` and ``measure-gan``.
"""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say_leftovers, tell, tell_json
from genrep.errors import ConfigError
from genrep.option_types import offering
from genrep.progress import note
from genrep.settings import configured, from_options, options

from ..diffusion.config import FitDiffusionConfig
from ..fits.config import PRESETS, CompareConfig, DeltaConfig, FilterConfig, NavigatorConfig, SteerConfig
from ..gan.config import FitGanConfig
from ..quality.config import MeasureGanConfig
from .dataset import DRY_RUN

FIRST = ("gen", "weights", "features", "truncation", "out")  # of fit-navigator's options, before --preset


@click.command("fit-steer")
@configured(SteerConfig, dry_run=DRY_RUN)
def fit_steer_command(config: SteerConfig) -> None:
    """Learn latent walks that shift, zoom, rotate and recolour the image (GenRep, section 3.2).

    Each walk w is trained so that G(z + alpha w) matches the transformed image T(G(z), alpha). Leaves walks.safetensors, a
    picture of the walks (walks.png) and their measured effects (effects.json, effects.png). The same command resumes an
    interrupted run.

    \b
    Example:
      genrep-generate fit-steer --gen stylegan2_fashion --lr 0.003 --samples 48000 --out runs/steer
      genrep-generate dataset --views steered:walks=runs/steer/walks.safetensors --out shards
    """
    from ..fits.steering import fit_steer

    result = fit_steer(config)
    facts = {
        "walks": result.path,
        "picture": result.sheet,
        "samples": result.samples,
        "seconds": result.seconds,
        "curves": result.curves,
    }
    rises = [(curve.name, "rises with alpha" if curve.rises else "does not rise throughout") for curve in result.curves]
    lines = [f"walks          {result.path}", f"picture        {result.sheet}"]
    tell(facts, [*lines, *(f"{name:14} {what}" for name, what in rises)])
    say_leftovers([config.out / "checkpoint.pt"])


@click.command("fit-navigator")
@options(NavigatorConfig, *FIRST, defaults=False)
@click.option(
    "--preset",
    metavar="cop-gen|hl",
    shell_complete=offering(lambda: PRESETS),
    default="cop-gen",
    show_default=True,
    help="Paper whose settings to start from.",
)
@options(NavigatorConfig, without=FIRST, defaults=False)
@click.option("--dry-run", is_flag=True, help=DRY_RUN)
def fit_navigator_command(preset: str, dry_run: bool, **values: Any) -> None:
    """Learn a latent view T adversarially (COP-Gen; HL).

    An encoder f estimates the mutual information of G(z) and G(z + T(z)); T is trained to lower it. Leaves
    navigator.safetensors, navigator.json and strip.png, which shows T at every checkpoint. Options left out take the preset's
    values; --dry-run prints them all. The same command resumes an interrupted run.

    \b
    Example:
      genrep-generate fit-navigator --gen stylegan2_fashion --max-distance 1.5 --samples 30000 --out runs/navigator
      genrep-generate dataset --views navigator:weights=runs/navigator/navigator.safetensors --out shards
    """
    try:
        config = NavigatorConfig.of_preset(preset, **values)
    except ConfigError as error:
        raise click.UsageError(error.in_shell()) from error
    if dry_run:
        print_config(config)
        return
    from ..fits.navigator import fit_navigator
    from ..sources.open import warning

    result = fit_navigator(config)
    said = warning(result.pixel_change)
    if said is not None:
        note(f"warning: {said}")
    tell(
        {
            "navigator": result.path,
            "strip": result.strip,
            "pixel_change": result.pixel_change,
            "warning": said,
            "stopped": result.stopped,
            "samples": result.samples,
            "loss_f": result.loss_f,
            "seconds": result.seconds,
        },
        [
            f"navigator      {result.path}",
            f"strip          {result.strip}",
            f"pixels change  by {result.pixel_change:.2f} of 255 levels on average",
            f"stopped        by {result.stopped} after {result.samples} anchors, loss of f {result.loss_f:.3f}",
        ],
    )
    say_leftovers([config.out / "checkpoint.pt"])


@click.command("measure-delta")
@options(DeltaConfig)
def measure_delta_command(**values: Any) -> None:
    """Measure how far navigators move a latent (HL, Table 1).

    RUN is a folder of fit-navigator, or a navigator file. Writes the mean and standard deviation of |T(z)| per chunk as JSON,
    and a plot beside it.

    \b
    Example:
      genrep-generate measure-delta runs/navigator-* --out delta.json
    """
    config = from_options(DeltaConfig, values)
    from ..fits.navigator_measure import measure_delta

    result = measure_delta(config)
    plot = config.out.with_suffix(".png")
    tell({**result, "path": config.out, "plot": plot}, f"written to {config.out} and {plot}")


@click.command("compare-navigator")
@configured(CompareConfig)
def compare_navigator_command(config: CompareConfig) -> None:
    """Compare a navigator with random walks of the same length.

    RUN is a folder of fit-navigator. Prints, as JSON, the InfoNCE loss of its estimator f on positives of T and on positives of
    the random walks: a higher loss means less mutual information.

    \b
    Example:
      genrep-generate compare-navigator runs/navigator
    """
    from ..fits.navigator_measure import compare_run

    tell_json(compare_run(config))


@click.command("fit-filter")
@configured(FilterConfig, dry_run=DRY_RUN)
def fit_filter_command(config: FilterConfig) -> None:
    """Train a filter that tells real images from generated ones (HL's discriminator).

    genrep-generate dataset --filter then keeps only the candidates that score as most real. Leaves filter.safetensors,
    filter.json and a picture of the best and worst scores (extremes.png). The same command resumes an interrupted run.

    \b
    Example:
      genrep-generate fit-filter --gen stylegan2_fashion --data fashion_mnist --root data --download --out runs/filter
      genrep-generate dataset --filter keep=0.5,weights=runs/filter --out shards
    """
    from ..fits.filtering import fit_filter

    result = fit_filter(config)
    held_out = result.held_out
    tell(
        {
            "filter": result.path,
            "picture": result.sheet,
            "images": result.images,
            "seconds": result.seconds,
            "held_out": held_out,
        },
        [
            f"filter         {result.path}",
            f"picture        {result.sheet}",
            f"training       {result.images} real images and as many generated ones in {result.seconds:.1f} s",
            f"held out       accuracy {held_out['accuracy']:.3f}, score {held_out['score_real']['mean']:.3f} of real "
            f"images, {held_out['score_generated']['mean']:.3f} of generated ones "
            f"({held_out['score_kept']['mean']:.3f} of the upper half, {held_out['score_rejected']['mean']:.3f} of the lower)",
        ],
    )
    say_leftovers([config.out / "checkpoint.pt"])


@click.command("fit-gan")
@configured(FitGanConfig, dry_run=DRY_RUN)
def fit_gan_command(config: FitGanConfig) -> None:
    """Train a StyleGAN2 on real images.

    Leaves generator.safetensors for genrep-generate dataset --weights, generator.json and sheets of samples. The same command
    resumes an interrupted run from its last checkpoint.

    \b
    Example:
      genrep-generate fit-gan --data fashion_mnist --root data --download --out runs/gan
    """
    from genrep.images.sets import load_images

    from ..gan.trainer import check_run, fit_gan

    check_run(config)
    data = load_images(config.data, config.root, "train", size=config.size, download=config.download)
    path = fit_gan(config, data)
    samples = sorted(config.out.glob("samples-*.png"))[-1]
    tell({"weights": path, "samples": samples}, [f"weights        {path}", f"samples        {samples}"])
    say_leftovers([config.out / "checkpoint.pt"], "to go on, or for --init")


@click.command("fit-diffusion")
@configured(FitDiffusionConfig, dry_run=DRY_RUN)
def fit_diffusion_command(config: FitDiffusionConfig) -> None:
    """Train a denoiser on real images by flow matching.

    Leaves a model folder that genrep-generate dataset --weights and the library diffusers read, and sheets of samples at
    several guidances. The same command resumes an interrupted run from its last checkpoint.

    \b
    Example:
      genrep-generate fit-diffusion --data fashion_mnist --root data --download --out runs/flow
    """
    from genrep.images.sets import load_images

    from ..generators.diffusers.building import library

    library("diffusers")  # of an extra: told in one line where it is missing
    from ..diffusion.trainer import check_run, fit_diffusion

    check_run(config)
    data = load_images(config.data, config.root, "train", size=config.size, download=config.download)
    path = fit_diffusion(config, data)
    samples = sorted(config.out.glob("samples-*.png"))[-1]
    tell({"weights": path, "samples": samples}, [f"weights        {path}", f"samples        {samples}"])
    say_leftovers([config.out / "checkpoint.pt"], "to go on")


@click.command("measure-gan")
@options(MeasureGanConfig)
def measure_gan_command(**values: Any) -> None:
    """Measure Fréchet distance, precision, recall, density and coverage of a generator.

    The features are those of a small classifier, which is first trained on the real training images. Real test images are
    measured the same way: their values are the best that a generator can be expected to reach.

    \b
    Example:
      genrep-generate measure-gan --weights runs/gan/generator.safetensors --data fashion_mnist --root data --out q.json
    """
    from ..quality.measure import measure_gan

    config = from_options(MeasureGanConfig, values)
    result = measure_gan(config)
    made, real = result["generated"], result["real_test"]
    lines = [
        f"{name:10} generated {made[name]:.3f}   real test images {real[name]:.3f}"
        for name in ("frechet", "precision", "recall", "density", "coverage")
    ]
    tell({**result, "path": config.out}, [*lines, f"written to {config.out}"])
