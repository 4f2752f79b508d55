"""Faster R-CNN on a ResNet's fourth stage (R50-C4; Ren et al. 2015), of torchvision's parts.

    image -> conv1 … res4 (stride 16) -> region proposals -> RoIAlign -> res5 -> norm -> mean -> class and box

Where torchvision's parts differ from detectron2's, which the papers used: losses of boxes are L1, RoIAlign is aligned to pixel
centres and samples adaptively, and the region samplers draw from a generator of their own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, roi_align

from genrep.encoders import LoadedEncoder
from genrep.encoders.layouts import resnet_width
from genrep.errors import WeightsError
from genrep.seeding import derive

from .config import DetectionPreset

STRIDE = 16
RATIOS = (0.5, 1.0, 2.0)
MAP = "res4"


class Body(nn.Module):
    """conv1 to res4. Shape: ``(N, 3, H, W) -> {"res4": (N, C, H / 16, W / 16)}``, float32."""

    def __init__(self, resnet: nn.Module, out_channels: int, bf16: bool) -> None:
        super().__init__()
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            self.add_module(name, resnet.get_submodule(name))
        self.out_channels, self.bf16 = out_channels, bf16

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            for layer in self.children():
                x = layer(x)
        return {MAP: x.float()}


class Res5Head(nn.Module):
    """res5 on what was taken out of each region, an extra norm (as MoCo fine-tunes detectors), and the mean over pixels.

    Shape: ``(R, C, P, P) -> (R, D)``.
    """

    def __init__(self, resnet: nn.Module, dim: int, bf16: bool) -> None:
        super().__init__()
        self.layer4 = resnet.get_submodule("layer4")
        self.norm = nn.BatchNorm2d(dim)
        self.bf16 = bf16

    def forward(self, regions: Tensor) -> Tensor:
        x = regions.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            x = self.norm(self.layer4(x))
        return x.float().mean(dim=(2, 3))


class Align(nn.Module):
    """RoIAlign on the one feature map. Shape: maps, boxes ``(R_i, 4)`` of each image -> ``(R, C, side, side)``."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], image_sizes: list[tuple[int, int]]) -> Tensor:
        side: Tensor = roi_align(features[MAP], boxes, self.side, 1 / STRIDE, sampling_ratio=-1, aligned=True)
        return side


class Predictor(nn.Module):
    """Scores of the classes (background first) and a box for each. Shape: ``(R, D) -> (R, C + 1), (R, 4 C + 4)``."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Linear(dim, num_classes + 1), nn.Linear(dim, 4 * (num_classes + 1))
        for layer, std in ((self.scores, 0.01), (self.boxes, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(features), self.boxes(features)


class Sampler:
    """Up to ``count`` regions of each image, at most ``fraction`` of them objects, drawn from ``generator``.

    Called with labels ``(A,)`` of each image (-1 = leave out, 0 = background), it returns two masks for each.
    """

    def __init__(self, count: int, fraction: float, generator: torch.Generator) -> None:
        self.count, self.fraction, self.generator = count, fraction, generator

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objects, background = [], []
        for found in labels:
            chosen = self._draw(found >= 1, int(self.count * self.fraction))
            objects.append(chosen)
            background.append(self._draw(found == 0, self.count - int(chosen.sum())))
        return objects, background

    def _draw(self, candidates: Tensor, count: int) -> Tensor:
        places = torch.where(candidates)[0]
        order = torch.randperm(len(places), generator=self.generator, device=places.device)
        return torch.zeros_like(candidates).index_fill_(0, places[order[:count]], True)


class Proposals(RegionProposalNetwork):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's region proposals with an L1 loss of boxes."""

    def compute_loss(
        self, objectness: Tensor, deltas: Tensor, labels: list[Tensor], targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        objects, background = (torch.cat(masks) for masks in self.fg_bg_sampler(labels))
        chosen = objects | background
        wanted = torch.cat(labels)
        loss = F.binary_cross_entropy_with_logits(objectness.flatten()[chosen], wanted[chosen])
        boxes = F.l1_loss(deltas[objects], torch.cat(targets)[objects], reduction="sum")
        return loss, boxes / chosen.sum()


class BoxHeads(RoIHeads):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's region classifier with an L1 loss of boxes."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if not self.training:
            result: tuple[list[dict[str, Tensor]], dict[str, Tensor]] = super().forward(
                features, proposals, image_shapes, targets
            )
            return result
        proposals, _, label_lists, target_lists = self.select_training_samples(proposals, targets)
        labels, wanted = torch.cat(label_lists), torch.cat(target_lists)
        scores, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        objects = torch.where(labels > 0)[0]
        mine = deltas.view(len(labels), -1, 4)[objects, labels[objects]]
        boxes = F.l1_loss(mine, wanted[objects], reduction="sum") / len(labels)
        return [], {"loss_classifier": F.cross_entropy(scores, labels), "loss_box_reg": boxes}


class Prepare(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's normalising and batching of images that have been resized before."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def build_detector(
    encoder: LoadedEncoder,
    preset: DetectionPreset,
    *,
    num_classes: int,
    seed: int,
    generator: torch.Generator,
    norm: str = "batch",
    bf16: bool = False,
) -> nn.Module:
    """The detector: a list of images ``(3, H, W)`` in [0, 1] with targets -> losses; in evaluation mode -> detections.

    Labels are 1 … ``num_classes``; 0 is the background.

    Args:
        generator: where the samplers draw, on the device of the network to be.
        norm: ``batch``, or ``frozen``: the encoder's own norms keep their statistics and gains.

    Raises:
        WeightsError: the encoder is no ResNet with the imagenet stem.
    """
    resnet, facts = encoder.module, encoder.facts
    if facts.stem != "imagenet" or not hasattr(resnet, "layer4"):
        raise WeightsError(
            f"{encoder.path}: an encoder {facts.arch} with the {facts.stem} stem; detection requires a ResNet with the "
            "imagenet stem (stride 16 at res4)"
        )
    if norm == "frozen":
        freeze(resnet)
    dim = resnet_width(facts.arch)
    body = Body(resnet, dim // 2, bf16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("detector", seed))
        proposals = _proposals(preset, dim // 2, generator)
        heads = BoxHeads(
            box_roi_pool=Align(preset.pool),
            box_head=Res5Head(resnet, dim, bf16),
            box_predictor=Predictor(dim, num_classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=preset.rois,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=0.05,
            nms_thresh=0.5,
            detections_per_img=100,
        )
    heads.fg_bg_sampler = Sampler(preset.rois, 0.25, generator)
    prepare = Prepare(0, 0, list(facts.mean), list(facts.std), size_divisible=32)
    detector: nn.Module = GeneralizedRCNN(body, proposals, heads, prepare)
    return detector.to(memory_format=torch.channels_last)


def _proposals(preset: DetectionPreset, channels: int, generator: torch.Generator) -> nn.Module:
    anchors = AnchorGenerator((preset.anchors,), (RATIOS,))
    proposals = Proposals(
        anchors,
        RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": preset.rpn_train[0], "testing": preset.rpn_test[0]},
        post_nms_top_n={"training": preset.rpn_train[1], "testing": preset.rpn_test[1]},
        nms_thresh=0.7,
    )
    proposals.fg_bg_sampler = Sampler(256, 0.5, generator)
    return proposals


def freeze(module: nn.Module) -> None:
    """Put a constant scale and shift in the place of every batch norm."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            state = {key: value for key, value in child.state_dict().items() if key != "num_batches_tracked"}
            frozen.load_state_dict(state)
            setattr(module, name, frozen)
        else:
            freeze(child)
