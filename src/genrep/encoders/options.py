"""The settings that name an encoder, for every config that takes them."""

from __future__ import annotations

from typing import Any

from genrep.settings import setting

from .architectures import POOLS, SHOWN, architecture


def arch_setting(default: str | None, *, when: str = "", then: str = "") -> Any:
    """The setting ``arch``. Its help begins with ``when`` and ends with ``then``."""
    text = (
        "architecture of the encoder, a ResNet of torchvision or a vision transformer of timm such as "
        "vit_small_patch16_224. Keys: width (channels of the first stage, or of a token), and of transformers depth, heads and "
        "position=learned or sincos."
    )
    return setting(
        default=default,
        metavar="NAME[:KEY=N,…]",
        check=architecture,
        offers=lambda: SHOWN,
        help=_sentence(when, text) + then,
    )


def patch_size_setting(*, when: str = "", then: str = "") -> Any:
    """The setting ``patch_size``."""
    text = f"side of a vision transformer's patches{then}.  [default: the name's]"
    return setting(default=None, least=1, metavar="PIXELS", help=_sentence(when, text))


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


def _sentence(when: str, text: str) -> str:
    return when + text if when else text[0].upper() + text[1:]
