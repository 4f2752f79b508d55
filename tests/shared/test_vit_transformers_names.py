"""CLIP and DINOv3 under the names that transformers gives them are the networks of their authors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import vit_recipe
from safetensors.torch import load_file, save_file
from torch import Tensor

from genrep.encoders import LoadedEncoder, load_encoder
from genrep.errors import WeightsError

State = dict[str, Tensor]


def features(encoder: LoadedEncoder, images: Tensor) -> Any:
    with torch.no_grad():
        return encoder.module(images, tokens=True)


AS_TRANSFORMERS_HAS_CLIP = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.attn\.in_proj_", ".self_attn.*_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
AS_TRANSFORMERS_HAS_DINOV3 = (
    (r"^(cls_token|mask_token)$", r"embeddings.\1"),
    (r"^storage_tokens$", "embeddings.register_tokens"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings."),
    (r"^blocks\.", "layer."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.qkv\.", ".attention.*_proj."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.(?:w1|fc1)\.", ".mlp.gate_proj."),
    (r"\.mlp\.w2\.", ".mlp.up_proj."),
    (r"\.mlp\.(?:w3|fc2)\.", ".mlp.down_proj."),
)


def renamed(state: State, renames: tuple[tuple[str, str], ...]) -> State:
    """A network under transformers' names, or a tensor's own. With ``*``, queries, keys and values are apart."""
    made: State = {}
    for name, tensor in state.items():
        for pattern, new in renames:
            name = re.sub(pattern, new, name)
        parts = zip("qkv", tensor.chunk(3)) if "*" in name else [("", tensor)]
        made |= {name.replace("*", one): part.clone() for one, part in parts}
    return made


def test_clip_as_transformers_has_it_is_openais(tmp_path: Path) -> None:
    golden = vit_recipe.golden("clip_fp32")
    state = torch.load(vit_recipe.write("clip_fp32", tmp_path), weights_only=True)
    beside = {"vision_model.embeddings.position_ids": torch.arange(17)[None], "logit_scale": torch.zeros(())}
    save_file({**renamed(state, AS_TRANSFORMERS_HAS_CLIP), **beside}, tmp_path / "model.safetensors")
    vision = {"hidden_size": 64, "num_attention_heads": 1, "hidden_act": "quick_gelu", "patch_size": 7}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "hidden_size": 5, "vision_config": vision}))
    encoder = load_encoder(tmp_path)
    found = features(encoder, golden["x"])
    assert (found.cls - golden["cls"]).abs().max() < 2e-4
    assert encoder.facts.mean[0] == 0.48145466 and "vision_model.embeddings (1 tensor)" in encoder.left_out
    assert encoder.notes[0] == (
        "a vision transformer of transformers' CLIP: width 64, depth 2, 1 heads, patches of 7 pixels, epsilon 1e-05, quick_gelu"
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": {"hidden_size": 5}}))
    with pytest.raises(WeightsError, match=r"config.json: hidden_size is 5; wanted 64, as the tensors of"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(("case", "gated"), [("dinov3_hub", False), ("dinov3_hub_swiglu_untied", True)])
def test_dinov3_as_transformers_has_it_is_its_authors(case: str, gated: bool, tmp_path: Path) -> None:
    golden, number = vit_recipe.golden(case), vit_recipe.facts(case)["heads"]
    state = torch.load(vit_recipe.write(case, tmp_path), weights_only=True)
    theirs = renamed(state, AS_TRANSFORMERS_HAS_DINOV3)
    unused = [
        name for name in theirs if "bias_mask" in name or "k_proj.bias" in name or "cls_norm" in name or "rope" in name
    ]
    theirs = {name: tensor for name, tensor in theirs.items() if name not in unused}
    if not gated:
        theirs = {name.replace("gate_proj", "up_proj"): tensor for name, tensor in theirs.items()}
    save_file(theirs, tmp_path / "model.safetensors")
    config = {"model_type": "dinov3_vit", "num_attention_heads": number, "rope_theta": 100.0, "layer_norm_eps": 1e-5}
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_act": "silu" if gated else "gelu"}))
    for name in ("x", "x_alt0"):
        found = features(load_encoder(tmp_path), golden[name])
        assert (found.patches - golden[name.replace("x", "patches")]).abs().max() < 1e-4
    save_file(
        {name: theirs[name] for name in theirs if name != "layer.0.attention.v_proj.weight"}, tmp_path / "a.safetensors"
    )
    with pytest.raises(WeightsError, match=r"blocks.0.attn.qkv.weight is missing"):
        load_encoder(tmp_path / "a.safetensors")


def test_a_bias_of_keys_is_never_made_up(tmp_path: Path) -> None:
    state = load_file(vit_recipe.write("hf_vitmodel", tmp_path))
    del state["encoder.layer.1.attention.attention.key.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"blocks.1.attn.qkv.bias is missing"):
        load_encoder(tmp_path)
