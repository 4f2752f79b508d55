"""Settings of ``genrep-train``, a class for each of their kinds. engine/training_plan.py resolves them.

samples.py    where the samples come from
network.py    the encoder
objective.py  what is minimised
optimiser.py  how long, and by which steps
views.py      which images of a sample the network sees
run.py        where it computes, and what is recorded
together.py   what they need of each other, and exclude
"""

from __future__ import annotations

from pathlib import Path

from genrep.pixel_views import ViewLaws, view_laws
from genrep.settings import config

from .network import NetworkSettings
from .objective import ObjectiveSettings
from .optimiser import OptimiserSettings
from .run import RunSettings
from .samples import SampleSettings
from .together import check_together
from .views import ViewSettings


@config
class TrainConfig(  # a dataclass takes its bases' fields from the last to the first
    RunSettings, ViewSettings, OptimiserSettings, ObjectiveSettings, NetworkSettings, SampleSettings
):
    """Settings of a run; the defaults are GenRep's. None: see ``training_plan.resolve``, and for objectives their classes.

    ``TrainConfig(**{**preset("genrep-in1k"), "data": …, "out": …})`` is a paper's row (``presets.py``).
    """

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        from genrep.datasets_manifest import dataset_folder

        data = (self.data,) if isinstance(self.data, Path) else self.data
        object.__setattr__(self, "data", tuple(dataset_folder(one) for one in data))
        check_together(self)

    @property
    def folders(self) -> tuple[Path, ...]:
        """``data``, always several."""
        return tuple(self.data)  # type: ignore[arg-type]

    def laws_of_views(self) -> ViewLaws:
        """The laws of the pixel views."""
        return view_laws(self.pixel_views, centre=self.centre, scale=self.crop_scale, local_scale=self.local_scale)
