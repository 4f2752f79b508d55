"""The networks, their optimiser and one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genrep.pixel_views import PixelViews, local_view
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw
from genrep.runs.processes import Processes
from genrep.seeding import derive

from ..data.outputs import local_name
from ..objectives import Output, Setup, Step, build_objective
from ..objectives.base import LOCAL_CROPS, PAIR_WEIGHTS, Decoder
from .optimiser import build_optimiser, clip_gradients, half_cosine, set_rate
from .pair_weights import pair_weights
from .samples import SampleFacts
from .training_plan import TrainingPlan, build_network

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class EncoderTrainer:
    """Owns the state that a step changes. Every random draw is a function of (seed, epoch, index, view) or (seed, step)."""

    def __init__(
        self, plan: TrainingPlan, facts: SampleFacts, processes: Processes, decode: Decoder | None = None
    ) -> None:
        self.plan, self.processes, self.device = plan, processes, processes.device
        config = plan.config
        assert config.weight_decay is not None
        encoder = build_network(config)
        setup = Setup(
            encoder=encoder,
            width=encoder.width,
            seed=config.seed,
            num_views=plan.num_views,
            size=plan.crop,
            local_views=config.local_crops,
            local_size=config.local_size or 0,
            steps_per_epoch=plan.steps_per_epoch,
            total_steps=plan.total_steps,
            latent_shape=facts.latent_shape,
            fields=facts.fields,
            labels=facts.labels,
            decode=decode,
        )
        self.objective = build_objective(config.objective, setup, **config.objective_options())
        self.module = self._on_device(Step(encoder, self.objective))
        self.encoder = self.module.encoder
        self.optimiser = build_optimiser(
            config.optimizer,
            self.encoder,
            self.objective,
            lr=plan.lr_scaled,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            beta2=config.beta2,
            layer_decay=config.layer_decay,
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.runner = self._distributed()
        self.rates = plan.schedule_of_rates()
        self.laws = config.laws_of_views()
        self.step = 0
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    def _on_device(self, module: Step) -> Step:
        if self.plan.config.sync_batchnorm and self.processes.size > 1:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return module.to(self.device).to(memory_format=torch.channels_last)

    def _distributed(self) -> nn.Module:
        if self.plan.config.compile:
            self.encoder.compile()
        if self.processes.size == 1:
            return self.module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            self.module, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    @property
    def lr(self) -> float:
        """The rate of the step to come."""
        return self.rates.rate(self.step)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is saved and measured."""
        return self.objective.evaluated(self.encoder)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a step needs of a batch."""
        images = ("anchor",) if self.plan.positive == "anchor" else ("anchor", "positive")
        weight = self.plan.config.weight_field
        return tuple(dict.fromkeys((*images, "index", *self.objective.fields, *([weight] if weight else []))))

    def images(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """The network's input: view 0 of every anchor, then view v of every sample's v-th other image.

        Shape: ``(B, H, W, 3)`` and ``(B, H, W, 3)`` or ``(B, K, H, W, 3)`` -> ``(V·B, 3, crop, crop)``. Of images of several
        sizes the batch holds cuts (``Crops``): of lone anchors ``(B, V, crop, crop, 3)``.
        """
        pictures = self._pictures(batch)
        laws = [self.laws.of(view) for view in range(self.plan.num_views)]
        if len(set(laws)) == 1:
            return self._views(pictures, laws[0], range(len(laws)), batch, epoch, self.plan.crop)
        made = [self._views([pictures[k]], law, [k], batch, epoch, self.plan.crop) for k, law in enumerate(laws)]
        return torch.cat(made)

    def local_crops(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """The first local crop of every sample's view 0, of its view 1, …, then the second. Shape ``(L·V·B, 3, s, s)``."""
        plan, config = self.plan, self.plan.config
        assert config.local_size is not None
        number, views = config.local_crops, range(plan.num_views)
        if plan.image_shape is None:
            cuts = [
                batch[name].unflatten(1, (number, -1))
                for name in map(local_name, ("anchor", "positive"))
                if name in batch
            ]
            crops = torch.cat(cuts, dim=2)  # (B, L, V, s, s, 3)
            pictures = [list(crops[:, crop].unbind(1)) for crop in range(number)]
        else:
            pictures = [self._pictures(batch)] * number
        made = []
        for crop in range(number):
            numbers = [local_view(view, crop) for view in views]
            made.append(self._views(pictures[crop], self.laws.local, numbers, batch, epoch, config.local_size))
        return torch.cat(made)

    def _pictures(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """The stored images, or cuts, that the views are of. Shape ``(B, H, W, 3)`` each."""
        plan, pictures = self.plan, [batch["anchor"]]
        if plan.positive == "anchor":
            return pictures * plan.num_views if plan.image_shape else list(batch["anchor"].unbind(1))
        if plan.positive == "all":
            return [*pictures, *batch["positive"].unbind(1)]
        return [*pictures, batch["positive"]]

    def _views(
        self,
        pictures: list[Tensor],
        law: PixelViews,
        views: Sequence[int],
        batch: dict[str, Tensor],
        epoch: int,
        size: int,
    ) -> Tensor:
        """Pixel views of one law, drawn by their numbers. Shape: ``(B, H, W, 3)`` each -> ``(len(views)·B, 3, size, size)``."""
        plan, index = self.plan, batch["index"].cpu().numpy()
        shape = plan.image_shape
        if shape is None:
            law, shape = replace(law, random_crop=False, centre=None), (size, size)
        parameters = draw(
            law,
            seed=plan.config.seed,
            epoch=epoch,
            index=np.tile(index, len(views)),
            view=np.repeat(views, len(index)),
            image_shape=shape,
            size=size,
        )
        compiled = plan.config.compile and self.device.type == "cuda"
        joined = torch.cat(pictures) if len(pictures) > 1 else pictures[0]
        return apply_views(joined, parameters, size, plan.mean, plan.std, compiled=compiled)

    def train_step(self, batch: dict[str, Tensor], epoch: int) -> Output:
        """One update. The output's loss is this process's mean over its samples; all of it stays on the device."""
        if self.plan.config.weight_field is not None:
            weights = pair_weights(batch, self.plan.config.weight_field, self.processes)
            batch = {**batch, PAIR_WEIGHTS: weights}
        self._set_rate()
        self.optimiser.zero_grad(set_to_none=True)
        with self._random_numbers():
            output = self._accumulated(batch, epoch)
        self.scaler.unscale_(self.optimiser)
        if (most := self.plan.config.clip_gradients) is not None:
            clip_gradients(self.module.parameters(), most, each=self.plan.config.clip_per_tensor)
        self.objective.after_backward(self.encoder, self.step)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.objective.after_step(self.encoder, self.step, self.plan.total_steps)
        self.step += 1
        return output

    def _set_rate(self) -> None:
        config, decay = self.plan.config, None
        if config.weight_decay is not None and config.weight_decay_end is not None:
            decay = half_cosine(config.weight_decay, config.weight_decay_end, self.step / self.plan.total_steps)
        set_rate(self.optimiser, self.lr, self.plan.lr_scaled, decay)

    @contextmanager
    def _random_numbers(self) -> Iterator[None]:
        """What networks draw themselves (stochastic depth) is a function of (seed, step, rank)."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive("networks", self.plan.config.seed, self.step, self.processes.rank))
            yield

    def _accumulated(self, batch: dict[str, Tensor], epoch: int) -> Output:
        """Gradients of the whole batch, in ``accumulate`` equal parts; the mean of the parts' outputs."""
        parts = self.plan.config.accumulate
        size = len(batch["index"]) // parts
        outputs = []
        for k in range(parts):
            part = {name: values[k * size : (k + 1) * size] for name, values in batch.items()}
            with self._synchronised(last=k == parts - 1):
                outputs.append(self._gradients(part, epoch, parts))
        return outputs[0] if parts == 1 else _mean(outputs)

    def _synchronised(self, *, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients in the last part only."""
        if last or not isinstance(self.runner, DistributedDataParallel):
            return nullcontext()
        waiting: AbstractContextManager[Any] = self.runner.no_sync()
        return waiting

    def _gradients(self, batch: dict[str, Tensor], epoch: int, parts: int) -> Output:
        batch = {
            name: values if name == "index" else values.to(self.device, non_blocking=True)
            for name, values in batch.items()
        }
        images = self.images(batch, epoch)
        if self.plan.config.local_crops:
            batch[LOCAL_CROPS] = self.local_crops(batch, epoch)
        dtype = AUTOCAST.get(self.plan.config.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            fields = (*self.objective.fields, *(name for name in (PAIR_WEIGHTS, LOCAL_CROPS) if name in batch))
            output: Output = self.runner(images, {name: batch[name] for name in fields}, self.step)
        self.scaler.scale(output.loss / parts if parts > 1 else output.loss).backward()
        return output._replace(loss=output.loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers; the same in every process but for batch norm's running statistics."""
        return {
            "model": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.module.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]


def _mean(outputs: list[Output]) -> Output:
    def average(values: list[Tensor]) -> Tensor:
        return torch.stack(values).mean(dim=0)

    metrics = {name: average([output.metrics[name] for output in outputs]) for name in outputs[0].metrics}
    embeddings = torch.cat([output.embeddings for output in outputs], dim=1)
    return Output(average([output.loss for output in outputs]), metrics, embeddings)
