"""Pixel views: ours on batches against torchvision's transforms image by image, in one run.

    python benchmarks/pixel_views.py [--views simclr] [--size 32] [--size 112] [--device cpu] [--threads 1]
    python benchmarks/pixel_views.py --multi-crop [--views dino] [--size 224]

Ours: drawing the parameters and applying them, from uint8 images to normalised tensors; also compiled, where asked for.
Theirs, on one core each: the classic transforms on PIL images (as in a DataLoader's worker), and v2 on uint8 tensors and on
float tensors, on the device. Images are 8/7 of the crop's size, but 32 pixels for a crop of 32; noise, smoothed.
``--multi-crop``: two views of each image with eight local crops, of 3/7 of their side, against two views alone, per crop made.
Rounds of the rivals alternate, and each one's best counts: what the work takes when nothing interrupts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from genrep.pixel_views import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PIXEL_VIEWS,
    VIEW_NAMES,
    PixelViews,
    ViewLaws,
    local_view,
    view_laws,
)
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw

OURS, COMPILED, PIL, TENSOR, FLOAT = "ours", "ours, compiled", "PIL", "v2, uint8", "v2, float"


def torchvisions(views: PixelViews, size: int, start: list[Any]) -> v2.Compose:
    """The policy in torchvision's transforms."""
    steps = [*start]
    if views.random_crop:
        steps.append(v2.RandomResizedCrop(size, views.scale, views.ratio, antialias=True))
    else:
        steps.append(v2.CenterCrop(size))
    steps.append(v2.RandomHorizontalFlip(views.flip))
    if views.affine:
        steps.append(v2.RandomAffine(views.degrees, (views.translate, views.translate), views.zoom))
    strengths = views.brightness, views.contrast, views.saturation, views.hue
    steps.append(v2.RandomApply([v2.ColorJitter(*strengths)], views.jitter) if views.jitter else v2.Identity())
    if views.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(2 * (size // 20) + 1, views.sigma)], views.blur))
    if views.rand_operations:
        steps.append(v2.RandAugment(views.rand_operations, views.rand_magnitude))
    steps.append(v2.RandomGrayscale(views.grayscale))
    to_float = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    return v2.Compose([*steps, *to_float])


def pixels(count: int, side: int) -> Tensor:
    """Smooth noise. Shape: ``(count, side, side, 3)`` uint8."""
    coarse = torch.rand(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return (fine * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def contestants(views: PixelViews, size: int, batch: int, device: torch.device, compiled: bool) -> dict[str, Any]:
    """Name -> (a call that makes views, how many images it makes them of)."""
    side = size if size <= 32 else size * 8 // 7
    stored = pixels(batch, side).to(device)
    few = max(1, min(batch, 2**21 // (side * side)))
    planar = [image.permute(2, 0, 1).contiguous() for image in stored[:few]]
    photos = [Image.fromarray(image.cpu().numpy()) for image in stored[:few]]
    epoch = iter(range(10**9))

    def ours(use_compiler: bool) -> None:
        index = np.arange(batch)
        p = draw(views, seed=0, epoch=next(epoch), index=index, view=index % 2, image_shape=(side, side), size=size)
        apply_views(stored, p, size, IMAGENET_MEAN, IMAGENET_STD, compiled=use_compiler)

    def each(transform: Callable[[Any], Tensor], images: list[Any]) -> None:
        torch.stack([transform(image) for image in images])

    on_pil, on_tensors = torchvisions(views, size, []), torchvisions(views, size, [v2.ToImage()])
    on_floats = torchvisions(views, size, [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    found = {
        OURS: (lambda: ours(False), batch),
        COMPILED: (lambda: ours(True), batch),
        PIL: (lambda: each(on_pil, photos), few),
        TENSOR: (lambda: each(on_tensors, planar), few),
        FLOAT: (lambda: each(on_floats, planar), few),
    }
    return found if compiled else {name: entry for name, entry in found.items() if name != COMPILED}


def rates(calls: dict[str, Any], device: torch.device, rounds: int) -> dict[str, float]:
    """Images a second: the best of the rounds."""
    best = dict.fromkeys(calls, float("inf"))
    for k in range(rounds + 1):  # the first one warms up
        for name, (call, count) in calls.items():
            wait(device)
            started = time.perf_counter()
            call()
            wait(device)
            if k:
                best[name] = min(best[name], (time.perf_counter() - started) / count)
    return {name: 1 / seconds for name, seconds in best.items()}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def crops(laws: ViewLaws, size: int, batch: int, local: int, device: torch.device) -> tuple[Callable[[], None], int]:
    """A call that makes two views of a batch and some local crops of each, and how many crops that is."""
    side = size if size <= 32 else size * 8 // 7
    stored, index = pixels(batch, side).to(device), np.arange(batch)
    epoch = iter(range(10**9))

    def made(law: PixelViews, numbers: list[int], to: int, number: int) -> None:
        views, rows = np.repeat(numbers, batch), np.tile(index, len(numbers))
        p = draw(law, seed=0, epoch=number, index=rows, view=views, image_shape=(side, side), size=to)
        apply_views(stored.repeat(len(numbers), 1, 1, 1), p, to, IMAGENET_MEAN, IMAGENET_STD)

    def call() -> None:
        number = next(epoch)
        for view in range(2):
            made(laws.of(view), [view], size, number)
        for crop in range(local):
            made(laws.local, [local_view(view, crop) for view in range(2)], max(8, round(size * 3 / 7)), number)

    return call, batch * 2 * (1 + local)


def multi_crop(
    policies: tuple[str, ...], sizes: tuple[int, ...], batch: int, device: torch.device, rounds: int
) -> None:
    """Print crops a second of two views, and with four local crops of each."""
    click.echo("| views | size | two views, crops/s | with 8 local crops, crops/s | ratio |")
    click.echo("|---|---:|---:|---:|---:|")
    for policy in policies:
        for size in sizes:
            count = min(max(16, batch * 112**2 // size**2), 2048)
            calls = {str(local): crops(view_laws(policy), size, count, local, device) for local in (0, 4)}
            found = rates(calls, device, rounds)
            ratio = found["4"] / found["0"]
            click.echo(f"| {policy} | {size} | {found['0']:.0f} | {found['4']:.0f} | {ratio:.2f} |")


def microseconds_to_draw(views: PixelViews, size: int, batch: int, rounds: int) -> float:
    """Of one view, the best of the rounds."""
    index, best = np.arange(batch), float("inf")
    for epoch in range(5 * rounds):
        started = time.perf_counter()
        draw(views, seed=0, epoch=epoch, index=index, view=index % 2, image_shape=(size, size), size=size)
        best = min(best, time.perf_counter() - started)
    return best / batch * 1e6


@click.command()
@click.option("--views", type=click.Choice(VIEW_NAMES), multiple=True, default=["simclr"], show_default=True)
@click.option("--size", "sizes", type=int, multiple=True, default=[32, 112, 224], show_default=True)
@click.option(
    "--batch", default=512, show_default=True, help="Views at a time, of 112 pixels; of others as many values."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True, help="PyTorch's.")
@click.option("--compile", "compiled", is_flag=True, help="Also with torch.compile.")
@click.option("--multi-crop", "with_local", is_flag=True, help="Two views with local crops against two views.")
@click.option("--rounds", default=5, show_default=True)
def main(
    views: tuple[str, ...],
    sizes: tuple[int, ...],
    batch: int,
    device: str,
    threads: int,
    compiled: bool,
    with_local: bool,
    rounds: int,
) -> None:
    """Print images a second, and how many times as fast as torchvision's transforms on PIL images that is."""
    torch.set_num_threads(threads)
    place = torch.device(device)
    click.echo(f"PyTorch {torch.__version__}, {device}, {threads} threads\n")
    if with_local:
        multi_crop(views, sizes, batch, place, rounds)
        return
    if unknown := set(views) - PIXEL_VIEWS.keys():
        raise click.UsageError(f"--views {sorted(unknown)[0]}: differ from view to view; give --multi-crop")
    names = [OURS, *([COMPILED] if compiled else []), PIL, TENSOR, FLOAT]
    click.echo("| views | size | draw, µs | " + " | ".join(names) + " | ours / PIL | ours / v2, uint8 |")
    click.echo("|---|---:|---:|" + "---:|" * (len(names) + 2))
    for policy in views:
        for size in sizes:
            count = min(max(16, batch * 112**2 // size**2), 2048)
            drawing = microseconds_to_draw(PIXEL_VIEWS[policy], size, count, rounds)
            found = rates(contestants(PIXEL_VIEWS[policy], size, count, place, compiled), place, rounds)
            best = max(found.get(COMPILED, 0.0), found[OURS])
            columns = [f"{found[name]:.0f}" for name in names]
            ratios = [f"{best / found[name]:.1f}" for name in (PIL, TENSOR)]
            click.echo("| " + " | ".join([policy, str(size), f"{drawing:.2f}", *columns, *ratios]) + " |")


if __name__ == "__main__":
    main()
