"""What is minimised. None stands for the objective's own default."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from genrep.settings import config, setting

from ..objectives import OBJECTIVES
from .views import number_range

TARGET_SCHEDULES = ("constant", "cosine")
CENTRINGS = ("centre", "sinkhorn")
MASK_SHAPES = ("block", "random")
OF_ALL = ("objective", "weight_field")  # what no objective has as an option of its own


@config
class ObjectiveSettings:
    """The objective and what only some objectives have."""

    objective: str = setting(default="simclr", choices=OBJECTIVES, help="Training objective.")
    temperature: float | None = setting(
        default=None,
        above=0,
        help="Temperature of the contrastive objectives.  [default: 0.1; mocov3, negative-feature-transform: 0.2]",
    )
    base_temperature: float | None = setting(
        default=None,
        above=0,
        help="Multiply the loss by temperature / base temperature. GenRep's code uses 0.07.  [default: no scaling]",
    )
    weight_sigma: float | None = setting(
        default=None, above=0, help="Width sigma of the weights of dclw.  [default: 0.5]"
    )
    target_momentum: float | None = setting(
        default=None,
        least=0,
        most=1,
        help="Momentum of the network that follows the trained one by a moving average.  [default: byol, dino and ibot 0.996, "
        "mocov3 0.99, synclr 0.994, negative-feature-transform 0.999]",
    )
    target_schedule: str | None = setting(
        default=None,
        choices=TARGET_SCHEDULES,
        help="Schedule of this momentum. cosine raises it to 1 at the end of training.  [default: cosine; byol: constant]",
    )
    queue_size: int | None = setting(
        default=None,
        least=1,
        help="Number of embeddings in the queue of nnclr and negative-feature-transform.  [default: 98304; "
        "negative-feature-transform: 65536]",
    )
    projector_layers: int | None = setting(
        default=None,
        least=1,
        most=16,
        help="Linear layers of the projector.  [default: multi-positive, synclr and lejepa 3; mocov3 3 for "
        "transformers, 2 for ResNets]",
    )
    projector_width: int | None = setting(
        default=None,
        least=1,
        help="Width of the hidden layers of the projector of multi-positive, mocov3, synclr and lejepa, and of mocov3's and "
        "synclr's predictor.  [default: 4096; lejepa 2048]",
    )
    projector_dim: int | None = setting(
        default=None,
        least=1,
        help="Length of the embeddings of multi-positive, mocov3, synclr and lejepa.  [default: 256; lejepa 16]",
    )
    per_view_projector: bool | None = setting(
        default=None,
        help="With multi-positive: the projector sees the images of each view by themselves, and batch norm takes their "
        "statistics.  [default: yes]",
    )
    student_temperature: float | None = setting(
        default=None,
        above=0,
        help="Temperature of the student's distributions over prototypes, of dino, ibot and synclr.  [default: 0.1]",
    )
    teacher_temperature: float | None = setting(
        default=None,
        above=0,
        help="Temperature of the teacher's distributions, after its warm-up.  [default: 0.04; ibot and synclr 0.07]",
    )
    teacher_temperature_start: float | None = setting(
        default=None,
        above=0,
        help="The teacher's temperature at the beginning of its warm-up.  [default: 0.04; dino --teacher-temperature]",
    )
    teacher_warmup_epochs: float | None = setting(
        default=None,
        least=0,
        metavar="EPOCHS",
        help="Epochs in which the teacher's temperature changes to its last value.  [default: dino 0, ibot 30, synclr 1]",
    )
    centring: str | None = setting(
        default=None,
        choices=CENTRINGS,
        help="What keeps the teacher of dino, ibot and synclr from collapsing. centre: a moving mean of its scores is taken "
        "off; sinkhorn: prototypes get equal shares of a batch.  [default: centre; synclr sinkhorn]",
    )
    centre_momentum: float | None = setting(
        default=None, least=0, most=1, help="Momentum of the moving mean of the teacher's scores.  [default: 0.9]"
    )
    prototypes: int | None = setting(
        default=None, least=2, help="Number of prototypes.  [default: dino 65536, ibot and synclr 8192]"
    )
    fixed_prototype_lengths: bool | None = setting(
        default=None,
        help="Prototypes keep the length 1, rather than learn it.  [default: dino yes, ibot and synclr no]",
    )
    freeze_prototypes_epochs: float | None = setting(
        default=None,
        least=0,
        metavar="EPOCHS",
        help="With dino and ibot: first epochs in which prototypes do not move.  [default: 1]",
    )
    head_layers: int | None = setting(
        default=None, least=1, most=16, help="Linear layers of the head before the prototypes.  [default: 3]"
    )
    head_width: int | None = setting(
        default=None, least=1, help="Width of the hidden layers of this head.  [default: 2048]"
    )
    bottleneck: int | None = setting(
        default=None, least=1, help="Length of the rows that prototypes are compared with.  [default: 256]"
    )
    mask_probability: float | None = setting(
        default=None,
        above=0,
        most=1,
        help="With ibot and synclr: probability that patches of a global view are masked for the student.  [default: 0.5]",
    )
    mask_ratio: tuple[float, float] | None = setting(
        default=None,
        metavar="LOW,HIGH",
        parse=number_range,
        help="Range of the part of its patches that is masked then.  [default: ibot .1,.5; synclr .5,.5]",
    )
    mask_shape: str | None = setting(
        default=None,
        choices=MASK_SHAPES,
        help="Masked patches are rectangles (block), or lie anywhere (random).  [default: ibot block, synclr random]",
    )
    dino_weight: float | None = setting(
        default=None,
        least=0,
        help="Weight of the loss on class tokens, of ibot; with synclr that of local crops.  [default: ibot 1, synclr 0]",
    )
    ibot_weight: float | None = setting(
        default=None, least=0, help="Weight of the loss on masked patches, of ibot and synclr.  [default: 1]"
    )
    sigreg_weight: float | None = setting(
        default=None,
        above=0,
        most=1,
        help="With lejepa: weight of the regulariser; the distance between views has the rest of 1.  [default: 0.02]",
    )
    slices: int | None = setting(
        default=None, least=1, help="With lejepa: number of random directions of the regulariser.  [default: 256]"
    )
    freeze_patches: bool | None = setting(
        default=None,
        help="With mocov3: keep the patch projection of a vision transformer at its random initialisation.  [default: yes]",
    )
    class_head: bool | None = setting(
        default=None, help="With inverter and autoencoder: also predict the class.  [default: no]"
    )
    latent_weight: float | None = setting(
        default=None, least=0, help="Weight of the latent term in the autoencoder's loss.  [default: 1]"
    )
    pixel_weight: float | None = setting(
        default=None, least=0, help="Weight of the pixel term in the autoencoder's loss.  [default: 1]"
    )
    weight_field: str | None = setting(
        default=None,
        metavar="NAME",
        help="Field of the samples whose number weighs each pair in the loss, such as weight or strength. A batch's weights "
        "are scaled to mean 1.  [default: all pairs weigh the same]",
    )

    def objective_options(self) -> dict[str, Any]:
        """The ``OBJECTIVE_OPTIONS`` that were given."""
        return {name: getattr(self, name) for name in OBJECTIVE_OPTIONS if getattr(self, name) is not None}


# Settings that only some objectives have; None: the objective's own default.
OBJECTIVE_OPTIONS = tuple(one.name for one in fields(ObjectiveSettings) if one.name not in OF_ALL)
