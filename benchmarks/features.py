"""How near the extraction of features comes to the speed of the forward pass alone.

    python benchmarks/features.py [--arch resnet18] [--size 64] [--images 2048] [--data IMAGE_FOLDER]

The bare pass is of one batch that lies on the device already, normalised, again and again; ours reads uint8 images from memory,
or decodes and crops files (--data: an image folder's training images), uploads, normalises and brings the features back. Both
in turn, a few rounds of each; the ratio is that of the best rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from genrep.devices import pick_device
from genrep.encoders import DEVICES, EncoderFacts, build_encoder
from genrep.evaluate.images import whole_batches
from genrep.evaluate.transforms import Transform
from genrep.features import FrozenEncoder, feature_batches
from genrep.images.sets import load_pair
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD

ROUNDS = 3


def images_per_second(function: Callable[[], int], device: torch.device) -> float:
    """Of one round."""
    started = time.perf_counter()
    count = function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


@click.command()
@click.option("--arch", default="resnet18", show_default=True)
@click.option("--size", type=click.IntRange(min=8), default=64, show_default=True, help="Side of the images in pixels.")
@click.option("--images", "count", type=click.IntRange(min=1), default=2048, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="An image folder to decode from.")
@click.option("--device", "device_name", type=click.Choice(DEVICES), default="auto", show_default=True)
def main(arch: str, size: int, count: int, batch: int, data: Path | None, device_name: str) -> None:
    """Measure and print."""
    device = pick_device(device_name)
    facts = EncoderFacts(arch=arch, stem="imagenet", size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    encoder = build_encoder(arch, "imagenet", 0)
    pixels = np.random.RandomState(0).randint(0, 256, (count, size, size, 3)).astype(np.uint8)
    fixed = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    frozen = FrozenEncoder(encoder, facts, device, batch)

    def bare() -> int:
        for _ in range(-(-count // batch)):
            frozen.of_normalised(fixed)
        return -(-count // batch) * batch

    def source() -> Iterator[NDArray[np.uint8]]:
        if data is None:
            yield from (pixels[start : start + batch] for start in range(0, count, batch))
            return
        train = load_pair(str(data), None)[0]
        rows = np.linspace(0, len(train) - 1, count).astype(np.int64)
        yield from whole_batches(train.take(rows, "some"), Transform(resize=size, crop=size), batch)

    def ours() -> int:
        return sum(len(part) for part in feature_batches(encoder, facts, source(), device, batch_size=batch))

    for function in (bare, ours):
        images_per_second(function, device)  # warm up
    best = dict.fromkeys(("bare", "ours"), 0.0)
    for _ in range(ROUNDS):
        best["bare"] = max(best["bare"], images_per_second(bare, device))
        best["ours"] = max(best["ours"], images_per_second(ours, device))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    told = "files" if data is not None else "memory"
    print(
        f"{arch}, {size} px, batch {batch}, {where}: bare forward {best['bare']:.0f} images/s, from {told} "
        f"{best['ours']:.0f} images/s, ratio {best['ours'] / best['bare']:.2f}"
    )


if __name__ == "__main__":
    main()
