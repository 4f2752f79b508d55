"""The checkpoints of ``vit/``: weights from a rule that needs no code of their authors, in the layout of their files.

A tensor is ``RandomState((crc32(key) ^ seed) & 0xffffffff).standard_normal(shape)``, scaled by its kind. ``key`` is its name in
the bare network, without what stands before it. Tables and constants that the authors' code makes are made by their formulas.
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = Path(__file__).parent / "vit"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))
SEEDS = {"student.": "student_backbone", "state_dict.module.momentum": "momentum_encoder", "state_dict.": "raw_weights"}
TOKENS = re.compile(
    r"cls_token|class_embedding|reg_token|_tokens|mask_token|pos_embed|positional_embedding|position_embeddings"
)
PATCHES = re.compile(r"patch_embed\.proj|conv1\.|patch_embeddings\.projection")
FIRST = re.compile(r"^(?:\w+//)?(?:module\.)?(?:backbone\.|base_encoder\.|momentum_encoder\.|predictor\.)?")


def facts(case: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{case}.json").read_text())


def golden(case: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{case}.safetensors")


def tensor(key: str, shape: list[int], seed: int, gain: float) -> np.ndarray:
    n = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF).standard_normal(shape).astype(np.float32)
    module, _, last = key.rpartition(".")
    fan_in = int(np.prod(shape[1:]))
    is_norm = re.search(r"norm|ln_|bn\d$", module.rpartition(".")[2]) or (len(shape) == 1 and last == "weight")
    if TOKENS.search(key):
        return n * np.float32(0.05)
    if last == "gamma":
        return n * np.float32(0.15) + np.float32(0.5)
    if last in ("running_mean", "running_var"):
        return n * 0.2 if last == "running_mean" else np.exp(n * 0.3)
    if is_norm or last.endswith("bias"):
        by = 0.02 if PATCHES.search(key) and module.endswith(("proj", "conv1", "projection")) else 0.2
        return n * by + (last == "weight")
    if len(shape) == 4:
        return n * ((gain if module.endswith(("proj", "conv1", "projection")) else 1) * fan_in**-0.5)
    wide = re.search(r"qkv|in_proj|query|key|q_proj", key)
    return n * ((1.4 if wide else 1) * fan_in**-0.5)


def made(name: str, shape: list[int], stored: dict[str, Any]) -> Tensor | None:
    """What no random numbers are in: counters, tables of sines and cosines, periods, masks of biases, sizes."""
    last = name.rpartition(".")[2].rpartition("//")[2]
    if not shape:
        sizes = {"input_resolution": stored.get("size", 32), "context_length": 8, "vocab_size": 40}
        return torch.tensor(sizes.get(last, 0))
    if last == "periods":
        return 100.0 ** (torch.arange(shape[0]) / shape[0])
    if last == "bias_mask":
        return torch.cat([torch.full((shape[0] // 3,), one) for one in (1.0, 0.0, 1.0)])
    if last not in ("pos_embed", "decoder_pos_embed") or stored["case"].partition("_")[0] not in ("mae", "mocov3"):
        return None
    side, quarter = round((shape[1] - 1) ** 0.5), shape[2] // 4
    y, x = np.mgrid[:side, :side].reshape(2, -1)
    omega = 10000.0 ** (-np.arange(quarter) / quarter)
    places = (x, y) if stored["case"].startswith("mae") else (y, x)
    table = np.concatenate([f(place[:, None] * omega) for place in places for f in (np.sin, np.cos)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, shape[2])), table])[None].astype(np.float32))


def state(case: str) -> dict[str, Any]:
    """The content of a case's file: nested where it is."""
    stored = {"case": case, **facts(case)}
    content: dict[str, Any] = {}
    for name, told in stored["keys"].items():
        shape, dtype = told if told and isinstance(told[-1], str) else (told, "float32")
        dotted = name.replace("//", ".")
        seeds = stored["seeds"]
        seed = next((seeds[key] for start, key in SEEDS.items() if dotted.startswith(start) and key in seeds), None)
        seed = next(iter(seeds.values())) if seed is None else seed
        key = FIRST.sub("", name)
        key = key.removeprefix("visual.") if case in ("stablerep", "synclr") else key
        value = made(name, shape, stored)
        if value is None:
            value = torch.from_numpy(np.asarray(tensor(key, shape, seed, stored["patch_gain"]), dtype=np.float32))
        if case == "clip_fp32" and re.search(r"conv1|attn|mlp", name):
            value = value.half()
        folder, _, last = name.rpartition("//")
        place = content.setdefault(folder, {}) if folder else content
        place[last] = value.to(getattr(torch, dtype))
    return content


# What stands beside the networks, as the authors' code saves it.
NAMESPACE = argparse.Namespace
AROUND: dict[str, dict[str, Any]] = {
    "dino_full": {
        "epoch": 100,
        "args": NAMESPACE(arch="vit_small", patch_size=8),
        "dino_loss": {"center": torch.ones(1, 40)},
    },
    "mocov3": {"epoch": 300, "arch": "vit_small", "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "mocov3_convstem": {"epoch": 300, "arch": "vit_small"},
    "mae_full": {"epoch": 399, "args": NAMESPACE(model="mae_vit_base_patch16", input_size=224)},
    "stablerep": {"epoch": 14, "args": NAMESPACE(model="base")},
    "openclip_train": {"epoch": 32, "name": "run"},
    "timm_train": {
        "epoch": 299,
        "arch": "vit_tiny_patch16_224",
        "args": NAMESPACE(model="vit_tiny_patch16_224", mean=None),
    },
}
SAFE = ("openclip_hub", "hf_vitmodel", "hf_vit_classifier", "timm_vit_hub", "timm_dinov2_reg_hub")


def write(case: str, folder: Path) -> Path:
    """A case's file, and the configuration beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**state(case), **AROUND.get(case, {})}
    for name, beside in facts(case).get("beside", {}).items():
        (folder / name).write_text(json.dumps(beside))
    if case in SAFE:
        save_file(content, folder / "model.safetensors")
        return folder / "model.safetensors"
    torch.save(content, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"
