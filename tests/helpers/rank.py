"""A rank of a little training run with every objective, for a process of its own.

Without batch statistics (eval mode) nothing but losses and queues looks across samples, so that W ranks with B / W samples
each must end where one rank with B samples ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_transformer import TinyTransformer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genrep.runs.processes import Processes
from genrep.train.engine.pair_weights import pair_weights
from genrep.train.objectives import OBJECTIVES, Setup, Step, build_objective, takes_local_crops, weighs_pairs
from genrep.train.objectives.base import LOCAL_CROPS, PAIR_WEIGHTS

SAMPLES, STEPS, WIDTH = 6, 2, 16
WEIGHTS = [0.5, 2.0, 0.0, 1.5, 0.25, 7.0]  # whose mean is another on each rank
LABELS = [3, 7, 7, 3, -1, 3]  # classes span the ranks, and one rank has more of them than the other
PROTOTYPES = {"prototypes": 12, "head_width": 10, "bottleneck": 6}
OPTIONS: dict[str, dict[str, Any]] = {
    "nnclr": {"queue_size": 10},
    "negative-feature-transform": {"queue_size": 10},
    "inverter": {"class_head": True},
    "multi-positive": {"projector_width": 12, "projector_dim": 8},
    "mocov3": {"projector_width": 12, "projector_dim": 8},
    "lejepa": {"projector_layers": 1, "projector_dim": 8, "slices": 20},
    "dino": PROTOTYPES,
    "dino by sinkhorn": {**PROTOTYPES, "centring": "sinkhorn"},
    "ibot": {**PROTOTYPES, "mask_probability": 0.8},
    "ibot by sinkhorn": {**PROTOTYPES, "mask_probability": 0.8, "centring": "sinkhorn"},
    "synclr": {**PROTOTYPES, "mask_probability": 0.8, "projector_width": 12, "projector_dim": 8, "dino_weight": 0.5},
}
VARIANTS = [name for name in OPTIONS if " " in name]


def decode(latents: Tensor, labels: Tensor | None) -> Tensor:
    return latents[:, :4].tanh().view(-1, 1, 1, 4).expand(-1, 3, 4, 4)


def whole_batch(views: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Shape of the images: ``(V, B, 3, 4, 4)``."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(views, SAMPLES, 3, 4, 4, generator=generator)
    return images, {
        "label": torch.tensor(LABELS),
        "index": torch.arange(SAMPLES) + 40,
        "z_anchor": torch.randn(SAMPLES, 6, generator=generator),
        "anchor": torch.randint(256, (SAMPLES, 4, 4, 3), generator=generator, dtype=torch.uint8),
    }


def train(name: str, rank: int, world: int, distributed: bool, weighted: bool = False) -> dict[str, Any]:
    """Losses (means over the ranks), gradients of the first step, and the state after the last."""
    torch.manual_seed(0)
    kind = name.split()[0]
    local = 2 if takes_local_crops(kind) else 0
    tokens = kind in ("ibot", "synclr")
    encoder = TinyTransformer(WIDTH) if tokens else nn.Sequential(nn.Flatten(), nn.Linear(48, WIDTH), nn.Tanh())
    setup = Setup(
        encoder=encoder, width=WIDTH, seed=0, latent_shape=(6,), labels=(3, 7), decode=decode, local_views=local
    )
    objective = build_objective(kind, setup, **OPTIONS.get(name, {}))
    for module in objective.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    step = Step(encoder, objective)
    wrapped = DistributedDataParallel(step, broadcast_buffers=False) if distributed else step
    optimiser = torch.optim.SGD(objective.parameter_groups(encoder, weight_decay=1e-4), lr=0.1, momentum=0.9)
    own = slice(rank * SAMPLES // world, (rank + 1) * SAMPLES // world)
    losses, gradients = [], {}
    for i in range(STEPS):
        images, fields = whole_batch(objective.num_views, i)
        part = {key: value[own] for key, value in fields.items()}
        if local:
            crops = images.flip(0).mul(0.5).repeat(local, 1, 1, 1, 1, 1)[:, :, own]  # (L, V, B, 3, 4, 4)
            part[LOCAL_CROPS] = crops.flatten(0, 2)
        if weighted:
            given = {"weight": torch.tensor(WEIGHTS)[own], "index": torch.arange(SAMPLES)[own]}
            place = Processes(device=torch.device("cpu"), rank=rank, size=world if distributed else 1)
            part[PAIR_WEIGHTS] = pair_weights(given, "weight", place)
        output = wrapped(images[:, own].flatten(0, 1), part, i)
        optimiser.zero_grad()
        output.loss.backward()
        if i == 0:
            gradients = {key: p.grad.clone() for key, p in step.named_parameters() if p.grad is not None}
        optimiser.step()
        objective.after_step(encoder, i, STEPS)
        loss = output.loss.detach().clone()
        if distributed:
            dist.all_reduce(loss)
        losses.append(loss / (world if distributed else 1))
    return {"losses": torch.stack(losses), "gradients": gradients, "state": step.state_dict()}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    results = {name: train(name, rank, world, world > 1) for name in (*OBJECTIVES, *VARIANTS)}
    for name in filter(weighs_pairs, OBJECTIVES):
        results[f"{name} weighted"] = train(name, rank, world, world > 1, weighted=True)
    if world == 1:  # what a rank would do that does not look at the others
        results["half alone"] = train("simclr", 0, 2, False)
    torch.save(results, folder / f"{world}-{rank}.pt")
    if world > 1:
        dist.destroy_process_group()
