"""HL's Figure 3 in one run: SimCLR fed by a torch DataLoader, by FFCV, by our loader, and by the generator itself.

    python benchmarks/loading.py figure3 [--gen stylegan2_fashion] [--batch-size 64] [--no-step] [--device cuda]

For each batch size the ways take turns, in one process, at pairs of images of the generator's size: PNG files (Pillow, worker
processes), one FFCV file, our shards (both raw up to 64 px, JPEG above), and pairs generated on the device. A step: two pixel
views (SimCLR), ResNet-18 with torchvision's stem, projector, InfoNCE, SGD; ``ready`` is the step alone, on a batch that lies on
the device. With ``--no-step`` loading alone, up to the batch on the device. Medians over rounds; an epoch is ``--images`` pairs
(ImageNet-100's number, as in HL's code).

Device-seconds, and the ratio by them: of the GPU; on a CPU of all its cores, which other users of the machine change less.
Energy: the GPU's counter through nvidia-ml-py, the CPU's through Linux's powercap where it may be read. ``--country`` adds
codecarbon's estimate of the whole machine's CO2 by that country's electricity.
"""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.append(str(Path(__file__).parent))  # where loading.py is; PYTHONSAFEPATH leaves it out
LARGE = 64  # pixels: above, sets are smaller
PNG_PAIRS = 2000  # that write_sets makes
FIELDS = ("anchor", "positive", "index")
BATCH_SIZES, SIZE = (32, 64, 128, 256), click.IntRange(2, PNG_PAIRS)
POWERCAP = "/sys/class/powercap"
Counters = dict[str, Callable[[], float]]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is measured."""

    gen: str
    views: str | None
    device: str
    step: bool
    seconds: float
    rounds: int
    workers: int
    images: int  # pairs of an epoch
    country: str | None


@dataclass(frozen=True, kw_only=True)
class Taken:
    """By a number of pairs."""

    pairs: int
    wall: float  # seconds
    device: float  # seconds of the GPU; on a CPU those of all cores together, which others' work changes less
    joules: dict[str, float]  # by counter
    grams: float | None  # of CO2


def energy_counters(device: str) -> Counters:
    """Those that this machine has, by name: joules since an arbitrary moment."""
    counter = nvml_counter(device) if device.startswith("cuda") else None
    found = {} if counter is None else {"GPU": counter}
    packages = [path / "energy_uj" for path in Path(POWERCAP).glob("intel-rapl:*") if path.name.count(":") == 1]
    if packages and all(os.access(path, os.R_OK) for path in packages):
        found["CPU"] = lambda: sum(int(path.read_text()) for path in packages) / 1e6
    return found


def nvml_counter(device: str) -> Callable[[], float] | None:
    """Joules of a CUDA device; None without nvidia-ml-py, or if the device does not count."""
    import torch

    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


class Emissions:
    """codecarbon's estimate; ``grams`` is None if it was not asked for."""

    def __init__(self, country: str | None) -> None:
        self.tracker: Any = None
        if country is not None:
            from codecarbon import OfflineEmissionsTracker

            settings = {"save_to_file": False, "log_level": "critical", "allow_multiple_runs": True}
            self.tracker = OfflineEmissionsTracker(country_iso_code=country, measure_power_secs=1, **settings)
            self.tracker.start()

    def grams(self) -> float | None:
        return None if self.tracker is None else 1000 * float(self.tracker.stop() or 0)


class Step:
    """Updates of SimCLR at up to 112 px."""

    def __init__(self, shape: tuple[int, int], device: str) -> None:
        import torch

        from genrep.encoders import ARCHS, EMBEDDING_DIM, Projector, build_encoder

        self.shape, self.crop, self.device = shape, min(112, *shape), torch.device(device)
        encoder, projector = build_encoder("resnet18", "imagenet", 0), Projector(ARCHS["resnet18"], EMBEDDING_DIM, 0)
        self.model = torch.nn.Sequential(encoder, projector).to(self.device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)

    def __call__(self, anchor: Any, positive: Any, index: Any) -> None:
        import torch

        from genrep.infonce import info_nce
        from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PIXEL_VIEWS
        from genrep.pixel_views.apply import apply_views
        from genrep.pixel_views.parameters import draw

        twice, view = np.concatenate([index, index]), np.repeat([0, 1], len(index))
        keys = {"seed": 0, "epoch": 0, "index": twice, "view": view}
        parameters = draw(PIXEL_VIEWS["simclr"], **keys, image_shape=self.shape, size=self.crop)
        images = apply_views(torch.cat([anchor, positive]), parameters, self.crop, IMAGENET_MEAN, IMAGENET_STD)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            embeddings = self.model(images)
        loss = info_nce(*embeddings.float().chunk(2), 0.1)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def png(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """torch's ``DataLoader``, over files that the page cache holds."""
    from loading import PngPairs
    from torch.utils.data import ConcatDataset, DataLoader

    data: Any = ConcatDataset([PngPairs(root / "png")] * 4)
    pinned = study.device.startswith("cuda")
    settings: dict[str, Any] = {"num_workers": study.workers, "persistent_workers": True, "pin_memory": pinned}
    return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True, **settings)


def ffcv(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """FFCV's ``Loader``."""
    from ffcv.loader import Loader, OrderOption

    unread = dict.fromkeys(("z_anchor", "z_positive", "label"))
    settings: dict[str, Any] = {"order": OrderOption.RANDOM, "seed": 0, "os_cache": True, "pipelines": unread}
    return Loader(str(root / "one.beton"), batch_size=batch_size, num_workers=study.workers, **settings)


def ours(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """``PairLoader``."""
    from genrep.train import PairLoader

    settings: dict[str, Any] = {"workers": study.workers, "pin_memory": study.device.startswith("cuda")}
    return PairLoader(root / "shards", batch_size=batch_size, fields=FIELDS, drop_last=True, **settings)


def online(root: Path, batch_size: int, study: Study) -> Iterable[Any]:
    """``OnlineLoader``."""
    from genrep.online import open_online
    from genrep.train.online import OnlineLoader

    source = open_online(study.gen, views=study.views, device=study.device)
    return OnlineLoader(source, batch_size=batch_size, steps_per_epoch=1000, fields=FIELDS)


WAYS = (png, ffcv, ours, online)  # PNG first: its workers are forked before the others have threads


def endless(loader: Iterable[Any], device: str) -> Iterator[tuple[Any, Any, Any]]:
    """Epoch after epoch: anchors and positives on the device, indices (NumPy)."""
    while True:
        for batch in loader:
            anchor, positive, *_, index = batch.values() if isinstance(batch, dict) else batch
            moved = [views.to(device, non_blocking=True) for views in (anchor, positive)]
            yield *moved, index.flatten().numpy()


def measure(batches: Iterator[Any], step: Callable[..., None] | None, study: Study, counters: Counters) -> Taken:
    """A turn of one way, once what it had read ahead is used up."""
    import torch
    from loading import cpu_seconds

    wait = torch.cuda.synchronize if study.device.startswith("cuda") else (lambda: None)
    for _ in range(2 * study.workers + 6):
        batch = next(batches)
    if step is not None:
        step(*batch)
    wait()
    emissions, pairs = Emissions(study.country), 0
    before, cpu, started = {name: read() for name, read in counters.items()}, cpu_seconds(), time.perf_counter()
    while not pairs or time.perf_counter() - started < study.seconds:
        batch = next(batches)
        if step is not None:
            step(*batch)
        pairs += len(batch[2])
        if step is None or pairs % (8 * len(batch[2])) == 0:
            wait()  # the host does not run away from the clock
    wait()
    wall = time.perf_counter() - started
    device = wall if study.device.startswith("cuda") else cpu_seconds() - cpu
    joules = {name: read() - before[name] for name, read in counters.items()}
    return Taken(pairs=pairs, wall=wall, device=device, joules=joules, grams=emissions.grams())


def write(root: Path, study: Study) -> None:
    """The generator's images as PNG files, one FFCV file, and shards."""
    from loading import PICTURES, write_sets

    from genrep.generate.pixels import default_encoding
    from genrep.online import open_online

    source = open_online(study.gen, device=study.device)
    images = source.batch(np.arange(PICTURES), ["anchor"])["anchor"].cpu().numpy()
    small = max(source.image_shape) <= LARGE
    write_sets(root, images, default_encoding(*source.image_shape), (4 if small else 1) * PNG_PAIRS)


def compare(root: Path, study: Study, batch_size: int) -> None:
    """Print the lines of one batch size, and end the process: FFCV's threads and Numba's finalisers would not go quietly."""
    loader = png(root, batch_size, study)
    next(iter(loader))  # the workers are there, before there is a thread or a GPU
    batches = {"png": endless(loader, study.device)}
    for way in WAYS[1:]:
        batches[way.__name__] = endless(way(root, batch_size, study), study.device)
    step = None
    if study.step:
        first = next(batches["online"])
        step, batches["ready"] = Step(first[0].shape[1:3], study.device), iter(lambda: first, None)
    counters = energy_counters(study.device)
    taken: dict[str, list[Taken]] = {name: [] for name in batches}
    for _ in range(study.rounds):
        for name, running in batches.items():
            taken[name].append(measure(running, step, study, counters))
    report(taken, batch_size, study)
    del loader, batches, running
    gc.collect()  # its workers and semaphores do go
    os._exit(0)


def report(taken: dict[str, list[Taken]], batch_size: int, study: Study) -> None:
    """A line for each way."""
    what = "SimCLR of a ResNet-18" if study.step else "loading alone"
    click.echo(f"\n{study.gen} on {study.device}, {what}, batches of {batch_size}, {study.workers} workers")
    for name, found in taken.items():
        speed = statistics.median(one.pairs / one.wall for one in found)
        used = [one.device / one.pairs for one in found]
        ratio = statistics.median(other.device / other.pairs / one for one, other in zip(used, taken["png"]))
        epoch = study.images * statistics.median(used)
        line = f"  {name:7} {2 * speed:9.0f} images/s {epoch:9.1f} device-seconds an epoch {ratio:8.2f} x png"
        for counter in found[0].joules:
            joules = statistics.median(one.joules[counter] / one.pairs for one in found) * study.images
            line += f" {joules / 1000:9.1f} kJ ({counter})"
        if study.country is not None:
            grams = statistics.median((one.grams or 0.0) / one.pairs for one in found) * study.images
            line += f" {grams:8.2f} g CO2"
        click.echo(line)
    if not found[0].joules:
        click.echo("  energy is not measured: no counter (a GPU's wants nvidia-ml-py)")


@click.command()
@click.option("--gen", default="stylegan2_fashion", show_default=True, help="As of genrep-generate.")
@click.option("--views", help="Of the online pairs.  [default: the recipe's]")
@click.option("--batch-size", "batch_sizes", type=SIZE, multiple=True, default=BATCH_SIZES, show_default=True)
@click.option("--step/--no-step", default=True, show_default=True, help="Train, or load only.")
@click.option("--images", default=126_789, show_default=True, help="Pairs of an epoch.")
@click.option("--seconds", default=4.0, show_default=True, help="Of a turn.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Of each loader of files.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--country", help="ISO code (three letters) for codecarbon, which must be installed.")
def figure3(batch_sizes: tuple[int, ...], **options: Any) -> None:
    """Print images/s, device-seconds and energy of an epoch for each way and batch size."""
    with tempfile.TemporaryDirectory() as name:
        work = [(write, ()), *((compare, (batch_size,)) for batch_size in batch_sizes)]
        for function, sizes in work:
            process = mp.get_context("spawn").Process(target=function, args=(Path(name), Study(**options), *sizes))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(1)


if __name__ == "__main__":
    figure3()
