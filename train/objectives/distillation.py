"""Self-distillation into prototypes: the head, what a teacher's scores become, and what they tell.

DINO (Caron et al. 2021) introduced it, iBOT (Zhou et al. 2022) does it for patches as well, and DINOv2 and SynCLR replace the
teacher's centre by Sinkhorn's algorithm, as SwAV had it (Caron et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from genrep.errors import TrainingError, one_of

from .base import Objective, Setup, full, full_precision, require_positive, require_views, unit
from .heads import Target, momentum_at, require_momentum, require_schedule
from .pairs import rank_and_size

CENTRINGS = ("centre", "sinkhorn")
SINKHORN_ROUNDS = 3
LEAST_INFORMATION = 0.01  # nats; below it a teacher does not tell samples from each other any more


class PrototypeHead(nn.Module):
    """A perceptron with GELUs to a bottleneck, unit length, then inner products with prototypes.

    ``fixed_lengths``: prototypes keep the length 1 (``norm_last_layer`` of the authors); else their lengths are learned.

    Shape: ``(N, width) -> (N, prototypes)``.
    """

    def __init__(
        self, width: int, *, layers: int, hidden: int, bottleneck: int, prototypes: int, fixed_lengths: bool
    ) -> None:
        super().__init__()
        self.width = width
        widths, parts = [width, *[hidden] * (layers - 1)], []
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*parts, nn.Linear(widths[-1], bottleneck))
        begin_linear_layers(self.mlp)
        self.prototypes = weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        lengths = self.prototypes.get_parameter("parametrizations.weight.original0")  # (prototypes, 1)
        nn.init.ones_(lengths)
        lengths.requires_grad_(not fixed_lengths)

    def embed(self, features: Tensor) -> Tensor:
        """Shape: ``(N, width) -> (N, bottleneck)``, rows of unit length."""
        return unit(self.mlp(features))

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.prototypes(self.embed(features))
        return scores


def begin_linear_layers(network: nn.Module) -> None:
    """Weights of standard deviation .02 and no bias, as the authors' heads begin."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Centre(nn.Module):
    """The moving average of a teacher's scores, around which their softmax is taken (Caron et al. 2021, eq. 4)."""

    mean: Tensor  # (K,)

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise TrainingError.naming("{centre_momentum} {}: wanted at least 0 and less than 1", momentum)
        self.register_buffer("mean", torch.zeros(prototypes))
        self.momentum = momentum
        self.waiting: list[Tensor] = []

    def around(self, scores: Tensor, temperature: float) -> Tensor:
        """softmax((t - c) / T). Shape: ``(N, K) -> (N, K)``."""
        return ((full(scores) - self.mean) / temperature).softmax(dim=-1)

    def push(self, scores: Tensor) -> None:
        """Keep scores for the next ``advance``; nothing in evaluation mode. Shape: ``(N, K)``."""
        if self.training:
            total = full(scores.detach()).sum(dim=0)
            self.waiting.append(torch.cat([total, total.new_full((1,), len(scores))]))

    @torch.no_grad()
    def advance(self) -> None:
        """Move towards the mean of what was pushed on all ranks since the last time: c <- m c + (1 - m) mean."""
        if not self.waiting:
            return
        pushed, self.waiting = torch.stack(self.waiting).sum(dim=0), []
        total, count = _sum_over_ranks(pushed).tensor_split([-1])
        self.mean.lerp_(torch.where(count > 0, total / count.clamp(min=1), self.mean), 1 - self.momentum)


def sinkhorn(scores: Tensor, temperature: float, rounds: int = SINKHORN_ROUNDS) -> Tensor:
    """exp(t / T) of the rows of all ranks, scaled in turn so that prototypes have equal totals and that each row sums to 1.

    The rows are scaled last (Caron et al. 2020, SwAV; Cuturi 2013). Ranks may bring different numbers of rows.

    Shape: ``(N, K) -> (N, K)``, of this rank's rows.
    """
    logs = full(scores) / temperature  # of the shares: they span more than float32 does
    for _ in range(rounds):
        logs = logs - _log_totals(logs)
        logs = logs.log_softmax(dim=1)
    return logs.exp()


def _log_totals(logs: Tensor) -> Tensor:
    """The logarithms of prototypes' totals over the rows of all ranks. Shape: ``(N, K) -> (K,)``."""
    highest = logs.amax(dim=0) if len(logs) else logs.new_full(logs.shape[1:], torch.finfo(logs.dtype).min)
    if rank_and_size()[1] > 1:
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return highest + _sum_over_ranks((logs - highest).exp().sum(dim=0)).log()


def _sum_over_ranks(values: Tensor) -> Tensor:
    """In place."""
    if rank_and_size()[1] > 1:
        dist.all_reduce(values)
    return values


def distilled(targets: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Cross-entropies -Σ_k p_k log softmax(s / τ)_k. Shape: ``(…, K), (…, K) -> (…)``.

    ``targets`` may be sums of several distributions; their cross-entropies are summed then.
    """
    with full_precision(scores):
        return -(targets * (full(scores) / temperature).log_softmax(dim=-1)).sum(dim=-1)


def teacher_temperature_at(epoch: float, first: float, last: float, warmup: float, *, by_epoch: bool) -> float:
    """The teacher's temperature after some epochs. It goes from ``first`` to ``last`` in ``warmup`` epochs.

    ``by_epoch``: one for each epoch, of which the last of the warm-up has ``last`` already (DINO's code). Else it moves at
    every step (SynCLR's).

    >>> [round(teacher_temperature_at(epoch, 0.04, 0.07, 4, by_epoch=True), 3) for epoch in (0, 1, 1.9, 3, 4)]
    [0.04, 0.05, 0.05, 0.07, 0.07]
    >>> [round(teacher_temperature_at(epoch, 0.04, 0.08, 4, by_epoch=False), 3) for epoch in (0, 1, 1.5, 4)]
    [0.04, 0.05, 0.055, 0.08]
    """
    if epoch >= warmup:
        return last
    part = int(epoch) / max(warmup - 1, 1) if by_epoch else epoch / warmup
    return first + (last - first) * part


def information(targets: Tensor) -> Tensor:
    """What targets tell of whose they are, in nats: the entropy of their mean less the mean of their entropies.

    It is 0 in both collapses that centring and sharpening guard against (Caron et al. 2021, section 5.3): all targets are
    uniform, or all are the same prototype. Shape: ``(N, K) -> ()``; of this rank's rows.
    """
    entropy = torch.special.entr(targets).sum(dim=-1).mean()
    return torch.special.entr(targets.mean(dim=0)).sum() - entropy


@dataclass(frozen=True, kw_only=True)
class DistillationOptions:
    """What a teacher over prototypes is made of. Raises TrainingError."""

    student_temperature: float = 0.1
    teacher_temperature: float = 0.04  # after the warm-up
    teacher_temperature_start: float | None = None  # None: the last one
    teacher_warmup_epochs: float = 0.0
    centring: str = "centre"
    centre_momentum: float = 0.9
    prototypes: int = 65536
    fixed_prototype_lengths: bool = True
    head_layers: int = 3
    head_width: int = 2048
    bottleneck: int = 256
    target_momentum: float = 0.996
    target_schedule: str = "cosine"

    def __post_init__(self) -> None:
        for name in ("student_temperature", "teacher_temperature"):
            require_positive(name, getattr(self, name))
        if self.teacher_temperature_start is not None:
            require_positive("teacher_temperature_start", self.teacher_temperature_start)
        if self.centring not in CENTRINGS:
            raise TrainingError.naming(
                "{centring} {!r}: wanted one of {}", self.centring, one_of(self.centring, CENTRINGS)
            )
        require_momentum(self.target_momentum)
        require_schedule(self.target_schedule)


class SelfDistillation(Objective):
    """What objectives with a teacher over prototypes share: the head, the targets, the teacher's course.

    The head has ``head_layers`` linear layers, ``head_width`` wide, the last to a ``bottleneck``, and ``prototypes``. A low
    temperature sharpens the teacher's distributions. A moving centre (``centring="centre"``) or Sinkhorn's algorithm keeps them
    from collapsing.

    The teacher, a moving average, is what is saved and measured.
    """

    num_views = 2  # at least
    weighs_pairs = True
    takes_local_crops = True
    of_class_tokens = False  # of a vision transformer, whose patches can be masked; else of pooled features
    temperature_by_epoch = True  # see ``teacher_temperature_at``
    target: Target

    def __init__(self, setup: Setup, options: DistillationOptions) -> None:
        super().__init__()
        self.num_views = require_views(self.name, setup.num_views)
        self.local_views, self.steps_per_epoch = setup.local_views, setup.steps_per_epoch
        self.distillation = options
        self.student_temperature = options.student_temperature
        if self.temperature_by_epoch and options.teacher_warmup_epochs % 1:
            raise TrainingError.naming(
                "{teacher_warmup_epochs} {:g}: {objective} {} has one temperature for each epoch; wanted a whole number",
                options.teacher_warmup_epochs,
                self.name,
            )
        self.centre = Centre(options.prototypes, options.centre_momentum)
        self.head = PrototypeHead(
            _token_length(self.name, setup) if self.of_class_tokens else setup.width,
            layers=options.head_layers,
            hidden=options.head_width,
            bottleneck=options.bottleneck,
            prototypes=options.prototypes,
            fixed_lengths=options.fixed_prototype_lengths,
        )

    def distributions(self, scores: Tensor, step: int, centre: Centre) -> Tensor:
        """The teacher's distributions over prototypes. Shape: ``(N, K) -> (N, K)``."""
        given, first = self.distillation, self.distillation.teacher_temperature_start
        last = given.teacher_temperature
        temperature = teacher_temperature_at(
            step / self.steps_per_epoch,
            last if first is None else first,
            last,
            given.teacher_warmup_epochs,
            by_epoch=self.temperature_by_epoch,
        )
        if given.centring == "sinkhorn":
            return sinkhorn(scores, temperature)
        return centre.around(scores, temperature)

    def momentum(self, step: int, total_steps: int) -> float:
        """The teacher's, in its move after an update."""
        return momentum_at(step, total_steps, self.distillation.target_momentum, self.distillation.target_schedule)

    def evaluated(self, encoder: nn.Module) -> nn.Module:
        return self.target.networks[0]

    def collapsed(self, line: Mapping[str, float]) -> str | None:
        found = float(line["teacher_information"])
        if found >= LEAST_INFORMATION:
            return None
        return f"the teacher's targets have collapsed, and tell {found:.4f} nats of whose they are,"


def _token_length(objective: str, setup: Setup) -> int:
    """Raises TrainingError."""
    if not getattr(setup.encoder, "takes_masks", False):
        raise TrainingError.naming(
            "{objective} {}: requires a vision transformer, whose patches it masks; wanted an {arch} such as "
            "vit_small_patch16_224",
            objective,
        )
    if not getattr(setup.encoder, "has_class_token", True):
        raise TrainingError.naming("{objective} {}: this transformer has no class token; wanted one", objective)
    length: int = setup.encoder.channels  # type: ignore[assignment]
    return length
