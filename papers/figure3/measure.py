"""Turns of each way of HL's Figure 3: time, joules by this machine's counters, and grams of CO2 by codecarbon's estimate."""

from __future__ import annotations

import gc
import importlib.util
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

import numpy as np

from genrep.cli import say
from genrep.extras import install
from genrep.files import write_atomic

from .ways import PICTURES, PNG_PAIRS, WAYS, Figure3Config, SimclrUpdates, Study, ffcv_installed, png, write_sets

LARGE = 64  # pixels: above, sets are smaller
POWERCAP = "/sys/class/powercap"
TOGETHER = 8  # steps between agreements of several devices on whether a turn is over
Counters = dict[str, Callable[[], float]]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The cost of a number of pairs."""

    pairs: int
    wall: float  # seconds
    device: float  # seconds of the GPUs; on a CPU those of all cores together, which others' work changes less
    joules: dict[str, float]  # by counter
    grams: float | None  # of CO2


def codecarbon_installed() -> bool:
    """Whether CO2 can be estimated."""
    return importlib.util.find_spec("codecarbon") is not None


def energy_counters(device: str) -> Counters:
    """The energy counters of this machine, by name: joules since an arbitrary moment."""
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
        """Since the beginning; ends the measurement."""
        return None if self.tracker is None else 1000 * float(self.tracker.stop() or 0)


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
    """Measure a turn of one loader, after using up what it has read ahead."""
    import torch

    def wait() -> None:
        if study.device.startswith("cuda"):
            torch.cuda.synchronize()

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
    """The sum over all devices."""
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
        if way.__name__ == "ffcv" and not ffcv_installed():
            continue
        batches[way.__name__] = endless(way(root, batch_size, study), study.device)
    step = None
    if study.step:
        first = next(batches["online"])
        step, batches["ready"] = SimclrUpdates(first[0].shape[1:3], study), iter(lambda: first, None)
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
    """The reported numbers of one loader: medians over its turns."""
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
    say(f"\n{study.gen} on {where}, {what}, batches of {batch_size}, {study.workers} workers")
    rows = {name: numbers(found, taken["png"], study) for name, found in taken.items()}
    for name, row in rows.items():
        line = f"  {name:7} {row['images_per_s']:9.0f} images/s {row['device_seconds']:9.1f} device-seconds per epoch "
        line += f"{row['times_png']:7.2f} x png"
        line += "".join(f" {value:9.1f} kJ ({counter})" for counter, value in row["kilojoules"].items())
        if "co2_grams" in row:
            line += f" {1000 * row['co2_grams_per_s']:8.2f} mg CO2/s {row['co2_grams']:9.2f} g in {study.epochs} epochs"
        say(line)
    if not rows["png"]["kilojoules"]:
        say("  energy is not measured: no counter found (a GPU's requires nvidia-ml-py)")
    if study.country is None:
        say(f"  CO2 is not estimated: that requires codecarbon ({install('energy')}) and no --no-co2")
    (root / f"figure3-{batch_size}.json").write_text(json.dumps(rows))


def cpu_seconds() -> float:
    """CPU seconds of this process's threads and its children."""
    stats = [Path(f"/proc/{child.pid}/stat").read_text().split(") ")[1].split() for child in mp.active_children()]
    ticks = sum(int(stat[11]) + int(stat[12]) for stat in stats)  # utime and stime
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def devices_of(device: str, given: int | None) -> int:
    """The number of devices that train together: as configured, else every GPU, or one CPU."""
    if given is not None or device != "cuda":
        return given or 1
    import torch

    return max(1, torch.cuda.device_count())


def measure_all(config: Figure3Config) -> None:
    """Print a line for each way and batch size, and write the numbers with their settings to ``config.out``."""
    co2 = codecarbon_installed() if config.co2 is None else config.co2
    devices, country = devices_of(config.device, config.devices), config.country if co2 else None
    settings: dict[str, Any] = {
        **{"gen": config.gen, "views": config.views, "step": config.step, "images": config.images},
        **{"epochs": config.epochs, "seconds": config.seconds, "rounds": config.rounds, "workers": config.workers},
        **{"device": config.device, "devices": devices, "country": country},
    }
    study = Study(**settings)
    if not ffcv_installed():
        say("FFCV is not installed: it is left out")
    with tempfile.TemporaryDirectory() as name:
        run_all([(write, (Path(name), study))])
        for size in config.batch_sizes:
            run_all([(compare, (Path(name), replace(study, rank=rank), size)) for rank in range(study.devices)])
        if config.out is not None:
            sizes = {size: json.loads((Path(name) / f"figure3-{size}.json").read_text()) for size in config.batch_sizes}
            write_atomic(config.out, json.dumps({"settings": settings, "sizes": sizes}).encode())  # in the ways' order


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
