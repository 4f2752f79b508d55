"""Which encoder is trained."""

from __future__ import annotations

from typing import Any

from genrep.encoders import STEMS
from genrep.encoders.options import NAMES, arch_setting, patch_size_setting, pool_setting, transformer_model
from genrep.settings import config, setting


@config
class NetworkSettings:
    """The encoder."""

    arch: str = arch_setting("resnet18", help=f"Architecture of the encoder, {NAMES}")
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
    patch_size: int | None = patch_size_setting(
        help="Side of a vision transformer's patches; --crop is a multiple of it."
    )
    global_pool: str | None = pool_setting("cls")
    drop_path: float = setting(
        default=0.0,
        least=0,
        below=1,
        metavar="PROBABILITY",
        help="Probability that a vision transformer's last block is left out in training, linear over the blocks.",
    )

    def transformer(self) -> dict[str, Any]:
        """What ``EncoderFacts.model`` says of these settings."""
        return transformer_model(self.patch_size, self.global_pool)
