"""What an epoch costs: joules by this machine's counters, and grams of CO2 by codecarbon's estimate."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = "/sys/class/powercap"
Counters = dict[str, Callable[[], float]]


def codecarbon_installed() -> bool:
    """Whether CO2 can be estimated."""
    return importlib.util.find_spec("codecarbon") is not None


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
