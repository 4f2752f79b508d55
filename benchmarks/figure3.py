"""HL's Figure 3 in one run: SimCLR fed by a torch DataLoader, by FFCV, by our loader, and by the generator itself.

    python benchmarks/loading.py figure3 [--gen stylegan2_fashion] [--batch-size 64] [--no-step] [--device cuda] [--devices 4]

For each batch size the ways take turns, in one process, at pairs of images of the generator's size: PNG files (Pillow, worker
processes), one FFCV file, our shards (both raw up to 64 px, JPEG above), and pairs generated on the device. A step: two pixel
views (SimCLR), ResNet-18 with torchvision's stem, projector, InfoNCE, SGD; ``ready`` is the step alone, on a batch that lies on
the device. With ``--no-step`` loading alone, up to the batch on the device. Medians over rounds; an epoch is ``--images`` pairs
(ImageNet-100's number, as in HL's code). Several devices train together (DistributedDataParallel), each on batches of its own.

Device-seconds, and the ratio by them: of all GPUs together; on a CPU of all its cores, which other users of the machine change
less. Energy: the GPUs' counters through nvidia-ml-py, the CPU's through Linux's powercap where it may be read. Where codecarbon
is installed, its estimate of the whole machine's CO2, as a rate and for ``--epochs``, by the electricity of ``--country``.
"""

from __future__ import annotations

import gc
import json
import multiprocessing as mp
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.append(str(Path(__file__).parent))  # where the modules beside this one are; PYTHONSAFEPATH leaves it out
from figure3_meters import Counters, Emissions, codecarbon_installed, energy_counters
from figure3_ways import WAYS, Step, Study, png

LARGE = 64  # pixels: above, sets are smaller
PNG_PAIRS = 2000  # that write_sets makes
BATCH_SIZES, SIZE = (32, 64, 128, 256), click.IntRange(2, PNG_PAIRS)
TOGETHER = 8  # steps between agreements of several devices on whether a turn is over


@dataclass(frozen=True, kw_only=True)
class Taken:
    """By a number of pairs."""

    pairs: int
    wall: float  # seconds
    device: float  # seconds of the GPUs; on a CPU those of all cores together, which others' work changes less
    joules: dict[str, float]  # by counter
    grams: float | None  # of CO2


def endless(loader: Iterable[Any], device: str) -> Iterator[tuple[Any, Any, Any]]:
    """Epoch after epoch: anchors and positives on the device, indices (NumPy)."""
    while True:
        for batch in loader:
            anchor, positive, *_, index = batch.values() if isinstance(batch, dict) else batch
            moved = [views.to(device, non_blocking=True) for views in (anchor, positive)]
            yield *moved, index.flatten().numpy()


def join(root: Path, study: Study, batch_size: int) -> Any:
    """Meet the other devices' processes; the group in which they agree. None for one device."""
    if study.devices == 1:
        return None
    import torch.distributed as dist

    kind = "nccl" if study.device.startswith("cuda") else "gloo"
    meeting = f"file://{root}/meeting-{batch_size}"
    dist.init_process_group(kind, init_method=meeting, rank=study.rank, world_size=study.devices)
    return dist.new_group(backend="gloo")


def all_want(more: bool, group: Any) -> bool:
    """Whether every device goes on."""
    if group is None:
        return more
    import torch
    import torch.distributed as dist

    flag = torch.tensor(int(more))
    dist.all_reduce(flag, dist.ReduceOp.MIN, group=group)
    return bool(flag)


def measure(
    batches: Iterator[Any], step: Callable[..., None] | None, study: Study, counters: Counters, group: Any
) -> Taken:
    """A turn of one way, once what it had read ahead is used up."""
    import torch
    from loading import cpu_seconds

    wait = torch.cuda.synchronize if study.device.startswith("cuda") else (lambda: None)
    for _ in range(2 * study.workers + 6):
        batch = next(batches)
    if step is not None:
        step(*batch)
    wait()
    emissions, pairs, steps = Emissions(study.country if study.rank == 0 else None), 0, 0
    all_want(True, group)  # they begin together
    before, cpu, started = {name: read() for name, read in counters.items()}, cpu_seconds(), time.perf_counter()
    going = True
    while going:
        batch = next(batches)
        if step is not None:
            step(*batch)
        pairs, steps = pairs + len(batch[2]), steps + 1
        if step is None or steps % 8 == 0:
            wait()  # the host does not run away from the clock
        if group is None or steps % TOGETHER == 0:
            going = all_want(time.perf_counter() - started < study.seconds, group)
    wait()
    wall = time.perf_counter() - started
    device = wall if study.device.startswith("cuda") else cpu_seconds() - cpu
    joules = {name: read() - before[name] for name, read in counters.items()}
    return Taken(pairs=pairs, wall=wall, device=device, joules=joules, grams=emissions.grams())


def of_all(mine: Taken, study: Study, group: Any) -> Taken:
    """Of all devices together."""
    if group is None:
        return mine
    import torch.distributed as dist

    found: list[Any] = [None] * study.devices
    dist.all_gather_object(found, mine, group=group)
    names = dict.fromkeys(name for one in found for name in one.joules)
    return Taken(
        pairs=sum(one.pairs for one in found),
        wall=max(one.wall for one in found),
        device=sum(one.device for one in found),
        joules={name: sum(one.joules.get(name, 0.0) for one in found) for name in names},
        grams=found[0].grams,
    )


def write(root: Path, study: Study) -> None:
    """The generator's images as PNG files, one FFCV file, and shards."""
    from loading import PICTURES, write_sets

    from genrep.across import open_online
    from genrep.generate.pixels import default_encoding

    source = open_online(study.gen, device=study.device)
    images = source.batch(np.arange(PICTURES), ["anchor"])["anchor"].cpu().numpy()
    small = max(source.image_shape) <= LARGE
    write_sets(root, images, default_encoding(*source.image_shape), (4 if small else 1) * PNG_PAIRS)


def compare(root: Path, study: Study, batch_size: int) -> None:
    """Print the lines of one batch size, and end the process: FFCV's threads and Numba's finalisers would not go quietly."""
    if study.device == "cuda":
        study = replace(study, device=f"cuda:{study.rank}")
    loader = png(root, batch_size, study)
    next(iter(loader))  # the workers are there, before there is a thread or a GPU
    group = join(root, study, batch_size)
    batches = {"png": endless(loader, study.device)}
    for way in WAYS[1:]:
        batches[way.__name__] = endless(way(root, batch_size, study), study.device)
    step = None
    if study.step:
        first = next(batches["online"])
        step, batches["ready"] = Step(first[0].shape[1:3], study), iter(lambda: first, None)
    counters = energy_counters(study.device)
    if study.rank:
        counters.pop("CPU", None)  # one for the machine
    taken: dict[str, list[Taken]] = {name: [] for name in batches}
    for _ in range(study.rounds):
        for name, running in batches.items():
            taken[name].append(of_all(measure(running, step, study, counters, group), study, group))
    if study.rank == 0:
        report(taken, batch_size, study, root)
    del loader, batches, running
    gc.collect()  # its workers and semaphores do go
    sys.stdout.flush()
    os._exit(0)


def numbers(found: list[Taken], against: list[Taken], study: Study) -> dict[str, Any]:
    """What is said of one way: medians over the turns."""
    used = [one.device / one.pairs for one in found]
    ratio = statistics.median(other.device / other.pairs / one for one, other in zip(used, against))
    joules = {
        name: statistics.median(one.joules[name] / one.pairs for one in found) * study.images
        for name in found[0].joules
    }
    said: dict[str, Any] = {
        "images_per_s": 2 * statistics.median(one.pairs / one.wall for one in found),
        "device_seconds": study.images * statistics.median(used),
        "times_png": ratio,
        "kilojoules": {name: value / 1000 for name, value in joules.items()},
    }
    if study.country is not None:
        said["co2_grams_per_s"] = statistics.median((one.grams or 0.0) / one.wall for one in found)
        per_epoch = study.images * statistics.median((one.grams or 0.0) / one.pairs for one in found)
        said["co2_grams"] = study.epochs * per_epoch
    return said


def report(taken: dict[str, list[Taken]], batch_size: int, study: Study, root: Path) -> None:
    """A line for each way, and the same for ``--out``."""
    what = "SimCLR of a ResNet-18" if study.step else "loading alone"
    where = study.device.partition(":")[0] + (f" x {study.devices}" if study.devices > 1 else "")
    click.echo(f"\n{study.gen} on {where}, {what}, batches of {batch_size}, {study.workers} workers")
    rows = {name: numbers(found, taken["png"], study) for name, found in taken.items()}
    for name, row in rows.items():
        line = f"  {name:7} {row['images_per_s']:9.0f} images/s {row['device_seconds']:9.1f} device-seconds an epoch "
        line += f"{row['times_png']:7.2f} x png"
        line += "".join(f" {value:9.1f} kJ ({counter})" for counter, value in row["kilojoules"].items())
        if "co2_grams" in row:
            line += f" {1000 * row['co2_grams_per_s']:8.2f} mg CO2/s {row['co2_grams']:9.2f} g in {study.epochs} epochs"
        click.echo(line)
    if not rows["png"]["kilojoules"]:
        click.echo("  energy is not measured: no counter (a GPU's wants nvidia-ml-py)")
    if study.country is None:
        click.echo("  CO2 is not estimated: it wants codecarbon (pip install 'genrep[energy]') and no --no-co2")
    (root / f"figure3-{batch_size}.json").write_text(json.dumps(rows))


def devices_of(device: str, given: int | None) -> int:
    """How many train together: those that are asked for, else every GPU, or the one CPU."""
    if given is not None or device != "cuda":
        return given or 1
    import torch

    return max(1, torch.cuda.device_count())


@click.command()
@click.option("--gen", default="stylegan2_fashion", show_default=True, help="As of genrep-generate.")
@click.option("--views", help="Of the online pairs.  [default: the recipe's]")
@click.option(
    "--batch-size",
    "batch_sizes",
    type=SIZE,
    multiple=True,
    default=BATCH_SIZES,
    show_default=True,
    help="Of each device.",
)
@click.option("--step/--no-step", default=True, show_default=True, help="Train, or load only.")
@click.option("--images", default=126_789, show_default=True, help="Pairs of an epoch.")
@click.option("--epochs", default=20, show_default=True, help="That CO2 is told of.")
@click.option("--seconds", default=4.0, show_default=True, help="Of a turn.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--workers", default=8, show_default=True, help="Of each loader of files.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--devices", type=click.IntRange(min=1), help="That train together.  [default: all GPUs, or one CPU]")
@click.option("--co2/--no-co2", default=None, help="Estimate CO2.  [default: where codecarbon is installed]")
@click.option("--country", default="USA", show_default=True, help="ISO code (three letters): whose electricity.")
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file for the numbers, with the settings.")
def figure3(
    batch_sizes: tuple[int, ...], devices: int | None, co2: bool | None, country: str, out: Path | None, **options: Any
) -> None:
    """Print images/s, device-seconds, energy and CO2 of an epoch for each way and batch size."""
    if co2 and not codecarbon_installed():
        raise click.UsageError("--co2: codecarbon is not installed; pip install 'genrep[energy]'")
    told = country if (codecarbon_installed() if co2 is None else co2) else None
    study = Study(**options, devices=devices_of(options["device"], devices), country=told)
    with tempfile.TemporaryDirectory() as name:
        run_all([(write, (Path(name), study))])
        for size in batch_sizes:
            run_all([(compare, (Path(name), replace(study, rank=rank), size)) for rank in range(study.devices)])
        if out is not None:
            sizes = {size: json.loads((Path(name) / f"figure3-{size}.json").read_text()) for size in batch_sizes}
            out.write_text(
                json.dumps({"settings": {**options, "devices": study.devices, "country": told}, "sizes": sizes})
            )


def run_all(work: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    """Processes side by side; ends with status 1 where one of them fails."""
    processes = [mp.get_context("spawn").Process(target=function, args=arguments) for function, arguments in work]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):  # the others would wait for it
            for process in processes:
                process.terminate()
        time.sleep(0.05)
    if any(process.exitcode for process in processes):
        sys.exit(1)


if __name__ == "__main__":
    figure3()
