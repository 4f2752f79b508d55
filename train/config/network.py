"""Which encoder is trained."""

from __future__ import annotations

from typing import Any

from genrep.encoders import POOLS, SHOWN, STEMS, architecture
from genrep.settings import config, setting


@config
class NetworkSettings:
    """The encoder."""

    arch: str = setting(
        default="resnet18",
        metavar="NAME[:KEY=N,…]",
        check=architecture,
        offers=lambda: SHOWN,
        help="Architecture of the encoder: a ResNet of torchvision,"
        " or a vision transformer of timm such as vit_small_patch16_224. Keys: width (channels of the first stage, or of a"
        " token), and of transformers depth, heads and position=learned or sincos.",
    )
    stem: str = setting(
        default="imagenet",
        choices=STEMS,
        help="First layers of a ResNet. imagenet: a 7x7 convolution of stride 2 and max pooling; cifar: a "
        "3x3 convolution, for small images.",
    )
    zero_init_residual: bool = setting(
        default=False,
        negatable=True,
        help="Start with all residual branches of a ResNet at zero, as SimSiam does.  [default: no]",
    )
    patch_size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of a vision transformer's patches; --crop is a multiple of it.  [default: the name's]",
    )
    global_pool: str | None = setting(
        default=None,
        choices=POOLS,
        help="Features of a vision transformer: the class token, the mean of the patch tokens, or both.  [default: cls]",
    )
    drop_path: float = setting(
        default=0.0,
        least=0,
        below=1,
        metavar="PROBABILITY",
        help="Probability that a vision transformer's last block is left out in training, linear over the blocks.",
    )

    def transformer(self) -> dict[str, Any]:
        """What ``EncoderFacts.model`` says of these settings."""
        given = {"patch_size": self.patch_size, "global_pool": self.global_pool}
        return {name: value for name, value in given.items() if value is not None}
