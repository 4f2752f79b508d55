"""Which encoder is trained."""

from __future__ import annotations

from genrep.encoders import ARCHS, STEMS
from genrep.settings import config, setting


@config
class NetworkSettings:
    """The encoder."""

    arch: str = setting(default="resnet18", choices=ARCHS, help="Architecture of the encoder, a ResNet of torchvision.")
    stem: str = setting(
        default="imagenet",
        choices=STEMS,
        help="First layers of the encoder. imagenet: a 7x7 convolution of stride 2 and max pooling; cifar: a "
        "3x3 convolution, for small images.",
    )
    zero_init_residual: bool = setting(
        default=False, negatable=True, help="Start with all residual branches at zero, as SimSiam does.  [default: no]"
    )
