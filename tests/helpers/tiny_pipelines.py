"""Tiny random pipelines of diffusers, written to disk from settings: no network, no weights, a second each at most.

Each function writes a folder and returns the library's pipeline of it. ``pytest.importorskip("diffusers")`` comes before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

WORDS = [chr(code) for code in range(33, 127)]


@contextmanager
def quiet():
    """The libraries' remarks and bars, off."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    yield


def write_clip_tokenizer(folder: Path) -> int:
    """vocab.json and merges.txt of a tokenizer of single letters; returns the number of words."""
    folder.mkdir(parents=True)
    words = [*WORDS, *(word + "</w>" for word in WORDS), "<|startoftext|>", "<|endoftext|>"]
    end = "<|endoftext|>"
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"bos_token": words[-2], "eos_token": end, "unk_token": end, "pad_token": end, "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "CLIPTokenizer"}))
    return len(words)


def write_qwen_tokenizer(folder: Path) -> int:
    """Likewise for Qwen, bytes as words, with a chat template that does what the published one does for one question."""
    folder.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = [chr(256 + number) for number in range(256 - len(printable))]
    words = [chr(code) for code in printable] + extra
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    added = {
        str(len(words) + number): {"content": word, "special": number < 3, "normalized": False}
        | dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
        for number, word in enumerate(special)
    }
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"  # as a literal: a template's last line break is cut
    )
    settings = {"added_tokens_decoder": added, "pad_token": special[0], "eos_token": "<|im_end|>", "unk_token": None}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "chat_template": template, "tokenizer_class": "Qwen2Tokenizer"})
    )
    return len(words) + len(special)


def _ready(pipeline: Any) -> Any:
    """Ready to sample: no bar, no dropout, and frozen: PyTorch multiplies otherwise where a weight takes a gradient."""
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def unet2d(**changes: Any) -> Any:
    """UNet2DModel of 12 k parameters."""
    from diffusers import UNet2DModel

    settings = {
        "block_out_channels": (4, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 16,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DModel(**{**settings, **changes})


def write_pixels(folder: Path, pipeline: str = "DDIMPipeline", scheduler: Any = None, **changes: Any) -> Any:
    """A pipeline of a UNet2DModel; ``pipeline``: DDPMPipeline, DDIMPipeline, ConsistencyModelPipeline."""
    import diffusers

    torch.manual_seed(0)
    with quiet():
        scheduler = scheduler or diffusers.DDIMScheduler()
        made = getattr(diffusers, pipeline)(unet=unet2d(**changes), scheduler=scheduler)
        if pipeline == "DDIMPipeline":  # its constructor makes a DDIMScheduler of any
            made.register_modules(scheduler=scheduler)
        made.save_pretrained(folder)
    return _ready(made)


def write_flow(folder: Path, classes: int = 0, *, channels: int = 3, scheduler: Any = None) -> Any:
    """What fit-diffusion writes: a UNet2DModel for flow matching, the last class the null class; returns the network."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    torch.manual_seed(0)
    unet = unet2d(num_class_embeds=classes + 1 if classes else None, in_channels=channels, out_channels=channels)
    unet.save_pretrained(folder / "unet")
    (scheduler or FlowMatchEulerDiscreteScheduler()).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DiffusionPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", type(scheduler or FlowMatchEulerDiscreteScheduler()).__name__],
        "genrep": {"null_class": bool(classes), "prediction": "flow", "channels": channels},
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return unet.eval().requires_grad_(False)


def vae(**changes: Any) -> Any:
    """AutoencoderKL of 12 k parameters: 16 pixels to 8."""
    from diffusers import AutoencoderKL

    settings = {
        "block_out_channels": (4, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 16,
    }
    return AutoencoderKL(**{**settings, **changes})


def write_dit(folder: Path, scheduler: Any = None) -> Any:
    """A DiT of two blocks for 8 pixels."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        sample_size=4,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    randomise(transformer)
    with quiet():
        made = DiTPipeline(transformer=transformer, vae=vae(), scheduler=scheduler or DDIMScheduler())
        made.save_pretrained(folder)
    return _ready(made)


def randomise(module: torch.nn.Module) -> None:
    """Random values for parameters that begin at 0, as DiT's do, so that the network's parts all matter."""
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)


def _clip(words: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = CLIPTextConfig(
        vocab_size=words,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
        projection_dim=16,
    )
    return CLIPTextModel(settings).eval()


def unet_condition(**changes: Any) -> Any:
    """UNet2DConditionModel of 17 k parameters."""
    from diffusers import UNet2DConditionModel

    settings = {
        "block_out_channels": (4, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
    }
    return UNet2DConditionModel(**{**settings, **changes})


SD_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def write_stable_diffusion(folder: Path, scheduler: Callable[..., Any] | None = None, **changes: Any) -> Any:
    """Stable Diffusion in little, for 16 pixels; ``scheduler``: a class, or a partial of one."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    words = write_clip_tokenizer(folder.with_name(folder.name + "-words"))
    make = scheduler or (lambda **settings: DDIMScheduler(**settings, clip_sample=False, set_alpha_to_one=False))
    with quiet():
        made = StableDiffusionPipeline(
            vae=vae(),
            text_encoder=_clip(words),
            tokenizer=CLIPTokenizer.from_pretrained(folder.with_name(folder.name + "-words")),
            unet=unet_condition(**changes),
            scheduler=make(**SD_NOISE),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        made.save_pretrained(folder)
    return _ready(made)


def write_unclip(folder: Path) -> Any:
    """Stable unCLIP image to image in little."""
    from diffusers import DDIMScheduler, DDPMScheduler, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import CLIPImageProcessor, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    words = write_clip_tokenizer(folder.with_name(folder.name + "-words"))
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=16)
    normalizer.mean.data.normal_()
    normalizer.std.data.uniform_(0.5, 1.5)
    with quiet():
        made = StableUnCLIPImg2ImgPipeline(
            feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
            image_encoder=CLIPVisionModelWithProjection(vision).eval(),
            image_normalizer=normalizer,
            image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
            tokenizer=CLIPTokenizer.from_pretrained(folder.with_name(folder.name + "-words")),
            text_encoder=_clip(words),
            unet=unet_condition(class_embed_type="projection", projection_class_embeddings_input_dim=32),
            scheduler=DDIMScheduler(**SD_NOISE, prediction_type="v_prediction", set_alpha_to_one=False),
            vae=vae(),
        )
        made.save_pretrained(folder)
    return _ready(made)


def write_flux2(folder: Path, *, distilled: bool = True) -> Any:
    """FLUX.2 [klein] in little."""
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    words = write_qwen_tokenizer(folder.with_name(folder.name + "-words"))
    text = Qwen3Config(
        vocab_size=words,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    encoder = AutoencoderKLFlux2(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    )
    encoder.bn.running_mean.normal_()
    encoder.bn.running_var.uniform_(0.5, 1.5)
    with quiet():
        made = Flux2KleinPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            vae=encoder.eval(),
            text_encoder=Qwen3ForCausalLM(text).eval(),
            tokenizer=Qwen2Tokenizer.from_pretrained(folder.with_name(folder.name + "-words")),
            transformer=transformer.eval(),
            is_distilled=distilled,
        )
        made.save_pretrained(folder)
    return _ready(made)
