"""What is minimised. None stands for the objective's own default."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from genrep.settings import config, setting

from ..objectives import OBJECTIVES

TARGET_SCHEDULES = ("constant", "cosine")
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
        help="Momentum of the network that follows the trained one by a moving average.  [default: byol 0.996, mocov3 0.99, "
        "negative-feature-transform 0.999]",
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
        help="Linear layers of the projector.  [default: multi-positive 3; mocov3 3 for transformers, 2 for ResNets]",
    )
    projector_width: int | None = setting(
        default=None,
        least=1,
        help="Width of the hidden layers of multi-positive's and mocov3's projector, and of mocov3's predictor.  "
        "[default: 4096]",
    )
    projector_dim: int | None = setting(
        default=None, least=1, help="Length of the embeddings of multi-positive and mocov3.  [default: 256]"
    )
    per_view_projector: bool | None = setting(
        default=None,
        help="With multi-positive: the projector sees the images of each view by themselves, and batch norm takes their "
        "statistics.  [default: yes]",
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
