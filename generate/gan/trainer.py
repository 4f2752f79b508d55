"""``fit-gan``: a StyleGAN2 of one's own; at its end fp16 safetensors with a json of facts.

A step is non-saturating loss, lazy R1, an exponential moving average of the weights. Every random draw of a step is a function
of (seed, step), so a resumed run goes on as if it had never stopped.

A run's folder: config.json · metrics.jsonl · checkpoint.pt · samples-<images>.png · generator.safetensors and generator.json.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.devices import pick_device, pick_precision
from genrep.errors import ResumeError, WeightsError, phrase
from genrep.files import require_writable, sha256_file, write_atomic, write_json
from genrep.images.inventory import inventory_of_pixels
from genrep.images.labelled import LabelledImages
from genrep.images.sheet import contact_sheet, save_png
from genrep.runs.checkpoints import FAULTS, read_state, reason_of
from genrep.runs.engine import Course, Pace, Run, Trainer
from genrep.runs.folder import CONFIG_FILE, differences, refuse_another
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes
from genrep.runs.sanity import check_training, diverged, gradients
from genrep.seeding import derive
from genrep.tensor_files import safetensors_bytes
from genrep.untrusted import read_object

from ..fits.frozen import at_work
from ..generators.stylegan2.networks import StyleGAN2Config, StyleGAN2Network, channel_schedule
from ..weights.cache import GAN_FACTS, GAN_WEIGHTS
from .config import FitGanConfig
from .discriminator import Discriminator, adjust_probability, augment

NETWORKS = ("generator", "average", "discriminator")
WAY = phrase("try a lower {lr}")  # out of a training that has diverged
SHEET_COLUMNS, SHEET_ROWS = 16, 8
ADA_INTERVAL = 4  # steps between two adjustments of the augmentation probability


class GanTrainer(Trainer):
    """Owns the networks and their optimisers."""

    counts = "image"

    def __init__(self, config: FitGanConfig, data: LabelledImages) -> None:
        self.config = config
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
            sources = [state.get("trainer", state)[name] for name in NETWORKS]  # older files hold them at the top
        except (ResumeError, *FAULTS) as error:
            raise WeightsError.naming("{init} {}: not a checkpoint of fit-gan ({})", path, reason_of(error)) from None
        for source, network in zip(sources, (getattr(self, name) for name in NETWORKS)):
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

    @property
    def position(self) -> int:
        """Runs are counted in images."""
        return self.images_seen

    def weights(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return self._networks().state_dict()

    def gradients(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return gradients([self._networks()])

    def _networks(self) -> nn.ModuleDict:
        return nn.ModuleDict({name: getattr(self, name) for name in NETWORKS})

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            **{name: getattr(self, name).state_dict() for name in NETWORKS},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "step": self.step,
            "augment_p": self.augment_p,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        for name in NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.step, self.augment_p = state["step"], state["augment_p"]

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """Losses, and what ADA does."""
        return {"images": self.images_seen, "seconds": pace.seconds, "augment_p": self.augment_p, **means}

    @torch.no_grad()
    def pictures(self) -> None:
        """A sheet of the averaged generator's samples, a class per column if conditional."""
        count = SHEET_COLUMNS * SHEET_ROWS
        z = torch.from_numpy(np.random.RandomState(1).standard_normal((count, self.config.z_dim)).astype(np.float32))
        c = self.one_hot(torch.arange(count) % SHEET_COLUMNS % max(self.num_classes, 1))
        images = self.average(z.to(self.device), c)
        pixels = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().permute(0, 2, 3, 1).numpy()
        if pixels.shape[3] == 1:
            pixels = pixels.repeat(3, axis=3)
        path = self.config.out / f"samples-{self.images_seen:09d}.png"
        save_png(path, contact_sheet(pixels, SHEET_COLUMNS), scale=2)


def fit_gan(config: FitGanConfig, data: LabelledImages) -> Path:
    """Train until ``total_images``, from the checkpoint in ``out`` if there is one; returns the exported weights' path.

    Raises:
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: a loss is not finite, or a batch does not fit the device's memory.
    """
    config = replace(config, device=str(pick_device(config.device)))
    images = inventory_of_pixels(data.images, data.labels, data.classes)
    course = Course(
        out=config.out,
        label="fit-gan",
        unit="image",
        total=config.total_images,
        per_step=config.batch_size,
        batch_size=config.batch_size,
        way=WAY,
        config=asdict(config),
        identity={**config.identity(), "data_sha256": images.digest},
        losses=("generator_loss", "discriminator_loss"),
        counts="images",
        checkpoint_every=config.snapshot_images,
        shown=dict.fromkeys(("generator_loss", "discriminator_loss", "real_sign"), ".3f"),
    )
    with at_work(config.out, torch.device(config.device), config.batch_size):
        trainer = GanTrainer(config, data)
        run = Run(trainer, course, Processes(device=trainer.device))
        run.go_on()
        return export_generator(trainer, data, run.seconds)


def check_run(config: FitGanConfig) -> None:
    """See whether the folder can be this run's. Its checkpoint has the last word, when it is read.

    Raises:
        ResumeError: ``out`` cannot be written, or holds a run with other settings.
        WeightsError: there is no file ``init``.
    """
    pick_device(config.device)
    require_writable(config.out)
    if config.init is not None and not config.init.is_file():
        raise WeightsError.naming(
            "{init} {}: no such file; wanted checkpoint.pt of another run of fit-gan", config.init
        )
    try:
        there = read_object(config.out / CONFIG_FILE, ResumeError)
    except ResumeError:  # missing or damaged
        return
    ours = {name: value for name, value in config.identity().items() if name != "init"}
    refuse_another(config.out, differences(ours, there, sorted(ours)))


def export_generator(trainer: GanTrainer, data: LabelledImages, seconds: float) -> Path:
    """Write ``generator.safetensors`` (averaged weights, fp16, ADA names) and ``generator.json`` into the run folder.

    ``weights/cache.py`` reads its name, data, licence and classes where the weights are used.
    """
    config = trainer.config
    path = config.out / GAN_WEIGHTS
    # Filters follow from the architecture. Dense mapping weights are stored at 1 / lr = 100 times unit scale: in range.
    state = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in trainer.average.state_dict().items()
        if not name.endswith("resample_filter")
    }
    check_training(config.out, trainer.images_seen, state, way=WAY, unit="image")  # what is beyond fp16 too
    write_atomic(path, safetensors_bytes(state, {"family": "stylegan2"}))
    facts = {
        "family": "stylegan2",
        "name": f"stylegan2-{data.name}",
        "sha256": sha256_file(path),
        "parameters": sum(p.numel() for p in trainer.average.parameters()),
        "training": {
            "data": data.name,
            "data_licence": data.licence,
            "images_seen": trainer.images_seen,
            "seconds": round(seconds, 1),
            "device": trainer.device.type,
            "torch": torch.__version__,
            **{name: value for name, value in config.identity().items() if name != "data"},
        },
        "classes": list(data.classes) if config.classes else [],
    }
    write_json(config.out / GAN_FACTS, facts)
    return path
