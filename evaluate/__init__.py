"""Measuring encoders: every number with the protocol it was measured by. Knows encoders, neither shards nor generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genrep.imports import lazy

if TYPE_CHECKING:
    from .detection.config import DetectionConfig
    from .detection.run import evaluate_detection
    from .few_label.config import FewLabelConfig
    from .few_label.run import evaluate_few_label
    from .finetune.config import FinetuneConfig
    from .finetune.run import evaluate_finetune
    from .knn import evaluate_knn
    from .linear.config import LinearConfig
    from .linear.run import evaluate_linear
    from .protocol import Protocol, Results
    from .segmentation.config import SegmentationConfig
    from .segmentation.run import evaluate_segmentation
    from .settings import KnnConfig
    from .transfer import TransferConfig, evaluate_transfer
    from .voc.config import Voc07Config
    from .voc.run import evaluate_voc07

__all__ = [
    "DetectionConfig",
    "FewLabelConfig",
    "FinetuneConfig",
    "KnnConfig",
    "LinearConfig",
    "Protocol",
    "Results",
    "SegmentationConfig",
    "TransferConfig",
    "Voc07Config",
    "evaluate_detection",
    "evaluate_few_label",
    "evaluate_finetune",
    "evaluate_knn",
    "evaluate_linear",
    "evaluate_segmentation",
    "evaluate_transfer",
    "evaluate_voc07",
]

# Found when asked for, so that `genrep-evaluate --help` does not wait for torch.
_LAZY = {
    "DetectionConfig": "detection.config",
    "FewLabelConfig": "few_label.config",
    "KnnConfig": "settings",
    "SegmentationConfig": "segmentation.config",
    "Voc07Config": "voc.config",
    "Protocol": "protocol",
    "Results": "protocol",
    "evaluate_detection": "detection.run",
    "evaluate_few_label": "few_label.run",
    "evaluate_knn": "knn",
    "evaluate_segmentation": "segmentation.run",
    "evaluate_voc07": "voc.run",
    "FinetuneConfig": "finetune.config",
    "LinearConfig": "linear.config",
    "TransferConfig": "transfer",
    "evaluate_finetune": "finetune.run",
    "evaluate_linear": "linear.run",
    "evaluate_transfer": "transfer",
}

__getattr__ = lazy(__name__, _LAZY)
