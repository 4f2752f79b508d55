"""Training of StyleGAN2: non-saturating loss, lazy R1, an exponential moving average of the weights.

Every random draw of a step is a function of (seed, step), so a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.encoders.devices import pick_precision
from genrep.errors import ResumeError, WeightsError
from genrep.files import locked_folder, write_json
from genrep.images.inventory import inventory_of_pixels
from genrep.images.labelled import LabelledImages
from genrep.images.sheet import contact_sheet, save_png
from genrep.progress import Progress
from genrep.runs.checkpoints import FAULTS, own_checkpoint, read_state, reason_of
from genrep.runs.sanity import LARGEST_GRADIENT, check_training, diverged, gradients
from genrep.seeding import derive

from ..generators.stylegan2.networks import StyleGAN2Config, StyleGAN2Network, channel_schedule
from .config import FitGanConfig
from .discriminator import Discriminator, adjust_probability, augment
from .run import CHECKPOINT_FILE, WAY, export_generator, write_snapshot

SHEET_COLUMNS, SHEET_ROWS = 16, 8
ADA_INTERVAL = 4  # steps between two adjustments of the augmentation probability


class GanTrainer:
    """Owns the networks, their optimisers and the step counter of one run."""

    def __init__(self, config: FitGanConfig, data: LabelledImages) -> None:
        self.config = config
        images = inventory_of_pixels(data.images, data.labels, data.classes)
        self.identity = {**config.identity(), "data_sha256": images.digest}
        self.device = torch.device(config.device)
        resolution = data.images.shape[1]
        self.img_channels = 1 if data.is_gray() else 3
        self.num_classes = len(data.classes) if config.classes else 0
        channels = channel_schedule(resolution, config.channel_base, config.channel_max)
        torch.manual_seed(derive("gan-init", config.seed))
        self.network_config = StyleGAN2Config(
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            resolution=resolution,
            channels=channels,
            img_channels=self.img_channels,
            c_dim=self.num_classes,
            num_mapping_layers=config.mapping_layers,
        )
        self.generator = StyleGAN2Network(self.network_config).to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = (
            Discriminator(
                resolution=resolution, channels=channels, img_channels=self.img_channels, c_dim=self.num_classes
            )
            .to(self.device)
            .to(memory_format=torch.channels_last)
        )
        dtype = torch.bfloat16 if pick_precision(config.precision, self.device) == "bf16" else torch.float32
        self.generator.synthesis.dtype = self.discriminator.dtype = dtype
        self.synthesis: Callable[..., Tensor] = (
            torch.compile(self.generator.synthesis) if config.compile else self.generator.synthesis
        )
        self.judge: Callable[..., Tensor] = torch.compile(self.discriminator) if config.compile else self.discriminator
        self.optimisers = self._optimisers()
        if config.init is not None:
            self._transfer(config.init)
        self.step = 0
        self.augment_p = 0.0
        self.seconds = 0.0
        pixels = data.images[..., : self.img_channels].transpose(0, 3, 1, 2)
        self.pixels = torch.from_numpy(np.ascontiguousarray(pixels))  # (N, C, H, W) uint8
        self.labels = torch.from_numpy(data.labels)

    def _optimisers(self) -> dict[str, torch.optim.Adam]:
        # Lazy regularisation (Karras et al. 2020, appendix B): R1 once in r1_interval steps, with the rates of an
        # optimiser that would have taken the two kinds of step in one.
        ratio = self.config.r1_interval / (self.config.r1_interval + 1)
        lr = self.config.lr
        return {
            "generator": torch.optim.Adam(self.generator.parameters(), lr=lr, betas=(0.0, 0.99), eps=1e-8, fused=True),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(), lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8, fused=True
            ),
        }

    def _transfer(self, path: Path) -> None:
        """Start from another run's weights wherever a tensor has the same name and shape, e.g. a conditional network's
        convolutions from an unconditional one's.
        """
        try:
            state = read_state(path, self.device)
            sources = [state["generator"], state["average"], state["discriminator"]]
        except (ResumeError, *FAULTS) as error:
            raise WeightsError(f"--init {path}: not a checkpoint of fit-gan ({reason_of(error)})") from None
        for source, network in zip(sources, (self.generator, self.average, self.discriminator)):
            ours = network.state_dict()
            same = {
                name: tensor for name, tensor in source.items() if name in ours and ours[name].shape == tensor.shape
            }
            network.load_state_dict({**ours, **same})

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.step * self.config.batch_size

    def one_hot(self, labels: Tensor) -> Tensor | None:
        """Shape: ``(B,) -> (B, num_classes)``, None if unconditional."""
        return F.one_hot(labels, self.num_classes).float().to(self.device) if self.num_classes else None

    def real_batch(self) -> tuple[Tensor, Tensor | None]:
        """The step's real images in [-1, 1], from a permutation drawn for each epoch, and their classes."""
        count, batch = len(self.pixels), self.config.batch_size
        positions = np.arange(self.step * batch, (self.step + 1) * batch)
        rows = np.empty(batch, dtype=np.int64)
        for epoch in np.unique(positions // count):
            order = np.random.default_rng(derive("gan-order", self.config.seed, int(epoch))).permutation(count)
            inside = positions // count == epoch
            rows[inside] = order[positions[inside] % count]
        images = self.pixels[rows].to(self.device).float() / 127.5 - 1
        if self.config.mirror:
            images = torch.where(torch.rand(batch, 1, 1, 1, device=self.device) < 0.5, images.flip(3), images)
        return images, self.one_hot(self.labels[rows])

    def fake_batch(self) -> tuple[Tensor, Tensor | None]:
        """Generated images of the step, differentiable in the generator's weights, and their classes."""
        batch, mapping = self.config.batch_size, self.generator.mapping
        z = torch.randn(batch, self.config.z_dim, device=self.device)
        c = self.one_hot(self.labels[torch.randint(len(self.labels), (batch,))])
        w = mapping(z, c)
        with torch.no_grad():
            mapping.w_avg.lerp_(w.detach().mean(dim=0), 1 - 0.995)
        ws = self.generator.broadcast(w)
        if self.config.style_mixing > 0 and torch.rand(()) < self.config.style_mixing:
            cut = int(torch.randint(1, ws.shape[1], ()))
            other = mapping(torch.randn_like(z), c)[:, None].expand_as(ws)
            ws = torch.cat([ws[:, :cut], other[:, cut:]], dim=1)
        return self.synthesis(ws, "random"), c

    def train_generator(self) -> float:
        """One step of the non-saturating loss ``softplus(-D(G(z)))``; returns it."""
        self.discriminator.requires_grad_(False)
        images, c = self.fake_batch()
        loss = F.softplus(-self.judge(augment(images, self.augment_p), c)).mean()
        self._apply("generator", loss)
        self.discriminator.requires_grad_(True)
        return float(loss.detach())

    def train_discriminator(self) -> tuple[float, float]:
        """One step of ``softplus(D(fake)) + softplus(-D(real))``; returns it and the mean sign of D(real)."""
        with torch.no_grad():
            fake, fake_c = self.fake_batch()
        real, real_c = self.real_batch()
        with torch.no_grad():
            both = augment(torch.cat([fake, real]), self.augment_p)
        c = None if fake_c is None or real_c is None else torch.cat([fake_c, real_c])
        on_fake, on_real = self.judge(both, c).chunk(2)
        loss = F.softplus(on_fake).mean() + F.softplus(-on_real).mean()
        self._apply("discriminator", loss)
        if self.step % self.config.r1_interval == 0:
            self._regularise(both[len(fake) :], real_c)
        return float(loss.detach()), float(on_real.detach().sign().mean())

    def _regularise(self, real: Tensor, c: Tensor | None) -> None:
        """R1 (Mescheder et al. 2018): gamma / 2 times the squared gradient of D at real images, in float32, uncompiled.

        The gradient is taken at the augmented image: sampling on a grid has no second derivative here.
        """
        dtype, self.discriminator.dtype = self.discriminator.dtype, torch.float32
        real = real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.discriminator(real, c).sum(), real, create_graph=True)
        penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
        self._apply("discriminator", penalty * (self.config.r1_gamma / 2 * self.config.r1_interval))
        self.discriminator.dtype = dtype

    def _apply(self, name: str, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            found = f"{name} loss is {float(loss.detach())} at image {self.images_seen:,}"
            raise diverged(self.config.out, found, WAY)
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def update_average(self) -> None:
        """EMA of the generator's weights; its buffers (w_avg, noise) are copied."""
        halflife = min(self.config.ema_halflife, max(self.images_seen, 1) * self.config.ema_rampup)
        beta = 0.5 ** (self.config.batch_size / max(halflife, 1e-8))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - beta)
        for averaged, current in zip(self.average.buffers(), self.generator.buffers()):
            averaged.copy_(current)

    def train_step(self) -> dict[str, float]:
        """One discriminator and one generator step; returns the step's losses."""
        torch.manual_seed(derive("gan-step", self.config.seed, self.step))
        generator_loss = self.train_generator()
        discriminator_loss, sign = self.train_discriminator()
        if self.config.augment == "ada" and self.step % ADA_INTERVAL == 0:
            self.augment_p = adjust_probability(self.augment_p, sign, ADA_INTERVAL * self.config.batch_size)
        self.step += 1
        self.update_average()
        return {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss, "real_sign": sign}

    def check(self) -> None:
        """Raises TrainingError if the networks or their gradients are not those of a training that goes well."""
        networks = nn.ModuleDict(
            {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}
        )
        out, seen = self.config.out, self.images_seen
        check_training(out, seen, networks.state_dict(), way=WAY, unit="image")
        check_training(out, seen, gradients([networks]), way=WAY, largest=LARGEST_GRADIENT, unit="image")

    @torch.no_grad()
    def sample_sheet(self, path: Path) -> None:
        """Write a sheet of the averaged generator's samples, a class per column if conditional."""
        count = SHEET_COLUMNS * SHEET_ROWS
        z = torch.from_numpy(np.random.RandomState(1).standard_normal((count, self.config.z_dim)).astype(np.float32))
        c = self.one_hot(torch.arange(count) % SHEET_COLUMNS % max(self.num_classes, 1))
        images = self.average(z.to(self.device), c)
        pixels = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().permute(0, 2, 3, 1).numpy()
        if pixels.shape[3] == 1:
            pixels = pixels.repeat(3, axis=3)
        save_png(path, contact_sheet(pixels, SHEET_COLUMNS), scale=2)

    def state(self) -> dict[str, Any]:
        """Everything that a later process needs to go on; plain tensors, numbers and strings."""
        return {
            "config": json.dumps(self.identity, sort_keys=True),
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "step": self.step,
            "augment_p": self.augment_p,
            "seconds": self.seconds,
        }

    def load(self, path: Path) -> None:
        """Go on from a checkpoint that the same settings wrote. Raises ResumeError if it is of others, or damaged."""
        with own_checkpoint(path, "remove it to begin anew, or give another --out"):
            self._take(path, read_state(path, self.device))

    def _take(self, path: Path, state: dict[str, Any]) -> None:
        ours, theirs = self.identity, json.loads(state["config"])
        names = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
        if names:
            differences = ", ".join(
                f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} asked for" for name in names
            )
            raise ResumeError(f"--out {path.parent}: holds another run ({differences})")
        self.generator.load_state_dict(state["generator"])
        self.average.load_state_dict(state["average"])
        self.discriminator.load_state_dict(state["discriminator"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.step, self.augment_p, self.seconds = state["step"], state["augment_p"], state["seconds"]


def fit_gan(config: FitGanConfig, data: LabelledImages) -> Path:
    """Train until ``total_images``, from the checkpoint in ``out`` if there is one; returns the exported weights' path."""
    with locked_folder(config.out):
        return _fit_gan(config, data)


def _fit_gan(config: FitGanConfig, data: LabelledImages) -> Path:
    trainer = GanTrainer(config, data)
    checkpoint = config.out / CHECKPOINT_FILE
    if checkpoint.exists():
        trainer.load(checkpoint)
    write_json(config.out / "config.json", json.loads(json.dumps(asdict(config), default=str)))
    started, before, rows = time.monotonic(), trainer.seconds, []
    with Progress(config.total_images, "image", "fit-gan", initial=trainer.images_seen) as progress:
        while trainer.images_seen < config.total_images:
            rows.append(trainer.train_step())
            progress.update(config.batch_size, **{name: f"{value:.3f}" for name, value in rows[-1].items()})
            snapshots = trainer.images_seen // config.snapshot_images
            if snapshots > (trainer.images_seen - config.batch_size) // config.snapshot_images:
                trainer.seconds = before + time.monotonic() - started
                write_snapshot(trainer, rows)
                rows = []
    trainer.seconds = before + time.monotonic() - started
    write_snapshot(trainer, rows)
    return export_generator(trainer, data)
