"""How an encoder is fine-tuned on few labels: every number with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """VISSL 0.1.6, semi_supervised/imagenet1k/eval_resnet_8gpu_transfer_in1k_semi_sup_fulltune.yaml, by which COP-Gen did it.

    The same for 1 % and 10 %: SGD with Nesterov momentum 0.9 and no weight decay, 70 epochs, a tenth of the rate after 30, the
    same rate for encoder and classifier, batch norm in training mode, incomplete batches dropped. Its pixels (Resize(256) ->
    CenterCrop(224), RandomResizedCrop(224)) are kept in proportion to the encoder's.
    """

    resize: int = 256
    crop: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)  # torchvision's default
    epochs: int = 70
    milestone: float = 30 / 70
    decay: float = 0.1
    batch_size: int = 256
    lr: float = 0.05  # at batch 256
    momentum: float = 0.9
    head_std: float = 0.01  # of the classifier's initial weights

    def scale(self, epoch: int, epochs: int) -> float:
        """The part of the learning rate in this epoch, counted from 1.

        >>> [FinetuneSettings().scale(e, 70) for e in (1, 30, 31, 70)]
        [1.0, 1.0, 0.1, 0.1]
        """
        return self.decay if epoch - 1 >= round(self.milestone * epochs) else 1.0


VISSL = FinetuneSettings()
