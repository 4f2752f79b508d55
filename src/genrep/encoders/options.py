"""The settings that name an encoder, for every config that takes them."""

from __future__ import annotations

from typing import Any

from genrep.settings import setting

from .architectures import POOLS, SHOWN, architecture

NAMES = (  # in words, for a help text
    "a ResNet of torchvision or a vision transformer of timm such as vit_small_patch16_224. Keys: width (channels of the first "
    "stage, or of a token), and of transformers depth, heads and position=learned or sincos."
)


def arch_setting(default: str | None, *, help: str) -> Any:
    """The setting ``arch``."""
    return setting(default=default, metavar="NAME[:KEY=N,…]", check=architecture, offers=lambda: SHOWN, help=help)


def patch_size_setting(*, help: str) -> Any:
    """The setting ``patch_size``."""
    return setting(default=None, least=1, metavar="PIXELS", help=f"{help}  [default: the name's]")


def pool_setting(default: str) -> Any:
    """The setting ``global_pool``; ``default`` in words."""
    return setting(
        default=None,
        choices=POOLS,
        help="Features of a vision transformer: the class token, the mean of the patch tokens, or both.  "
        f"[default: {default}]",
    )


def transformer_model(patch_size: int | None, global_pool: str | None) -> dict[str, Any]:
    """What ``EncoderFacts.model`` says of these settings."""
    given = {"patch_size": patch_size, "global_pool": global_pool}
    return {name: value for name, value in given.items() if value is not None}
