"""Vision transformers are timm's: the same names, the same numbers, and patch tokens beside the pooled features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from genrep.encoders import EncoderFacts, build_encoder, export_encoder, load_encoder, save_encoder
from genrep.encoders.vision_transformer import sincos, timm_config
from genrep.errors import GenRepError, WeightsError

ARCH = "vit_tiny_patch16_224:width=48,depth=3,heads=3"
MODEL = {"patch_size": 8}


def vit(seed: int = 0, size: int = 32, arch: str = ARCH, **model: Any) -> Any:
    return build_encoder(arch, "imagenet", seed, size=size, model={**MODEL, **model})


def facts(**changes: Any) -> EncoderFacts:
    given = {"arch": ARCH, "stem": "patch", "size": 32, "mean": (0.5,) * 3, "std": (0.25,) * 3, "model": MODEL}
    return EncoderFacts(**{**given, **changes})


@pytest.mark.parametrize("pool", ["cls", "avg", "cls+avg"])
def test_features_are_those_of_timm(pool: str, tmp_path: Path) -> None:
    encoder = vit(global_pool=pool).eval()
    save_encoder(tmp_path / "e.safetensors", encoder, facts(model={**MODEL, "global_pool": pool}))
    with safe_open(tmp_path / "e.safetensors", "pt") as file:
        config = json.loads(file.metadata()["timm"])
    theirs = timm.create_model(config["architecture"], **config["model_args"]).eval()
    theirs.load_state_dict(load_file(tmp_path / "e.safetensors"), strict=True)
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32] and config["pretrained_cfg"]["mean"] == [0.5] * 3
    images = torch.randn(3, 3, 32, 32)
    tokens, found = theirs.forward_features(images), encoder(images, tokens=True)
    wanted = {"cls": [tokens[:, 0]], "avg": [tokens[:, 1:].mean(dim=1)]}
    wanted["cls+avg"] = wanted["cls"] + wanted["avg"]
    torch.testing.assert_close(found.pooled, torch.cat(wanted[pool], dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.patches, tokens[:, 1:], atol=1e-5, rtol=1e-5)
    assert found.grid == (4, 4) and encoder.width == found.pooled.shape[1]
    if pool != "cls+avg":  # which timm has not
        torch.testing.assert_close(theirs(images), found.pooled, atol=1e-5, rtol=1e-5)


KINDS = (  # of timm's VisionTransformer class
    *("vit_base_patch16_224", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_clip_quickgelu_224"),
    *(
        "vit_medium_patch16_reg4_gap_256",
        "vit_base_patch16_siglip_224",
        "vit_small_patch16_36x1_224",
        "vit_small_patch16_18x2_224",
    ),
    *("vit_base_patch16_rpn_224", "vit_base_patch16_xp_224", "aimv2_large_patch14_224", "eva_large_patch14_196"),
    *("beit3_base_patch16_224", "deit3_small_patch16_224", "flexivit_small"),
)


@pytest.mark.parametrize("name", KINDS)
def test_all_kinds_of_timms_transformer_are_theirs(name: str) -> None:
    arch, size = f"{name}:width=24,depth=2,heads=2", 28 if "patch14" in name else 32
    encoder = build_encoder(arch, "imagenet", 0, size=size, model={"patch_size": size // 2}).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    config = timm_config(facts(arch=arch, size=size, model={"patch_size": size // 2}))
    theirs = timm.create_model(config["architecture"], **json.loads(json.dumps(config["model_args"]))).eval()
    theirs.load_state_dict(encoder.state_dict(), strict=True)
    images = torch.randn(2, 3, size, size)
    found = encoder(images, tokens=True)
    patches = theirs.forward_features(images)[:, encoder.num_prefix_tokens :]
    torch.testing.assert_close(found.patches, patches, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled, theirs(images), atol=1e-5, rtol=1e-5)
    assert (found.cls is None) == (
        "gap" in name or "siglip" in name or name.startswith(("aimv2", "vit_base_patch16_rpn"))
    )


def test_images_of_another_size_have_the_positions_interpolated_as_timm_does() -> None:
    encoder = vit().eval()
    theirs = timm.create_model(
        "vit_tiny_patch16_224",
        embed_dim=48,
        depth=3,
        num_heads=3,
        patch_size=8,
        img_size=32,
        num_classes=0,
        dynamic_img_size=True,
    ).eval()
    theirs.load_state_dict(encoder.state_dict())
    for shape in ((16, 16), (48, 24)):
        images = torch.randn(2, 3, *shape)
        torch.testing.assert_close(encoder(images), theirs(images), atol=1e-5, rtol=1e-5)
        assert encoder(images, tokens=True).grid == (shape[0] // 8, shape[1] // 8)
    with pytest.raises(
        WeightsError, match=r"images of 30x32 pixels: wanted sides that are multiples of the patches' 8"
    ):
        encoder(torch.zeros(1, 3, 30, 32))


def test_masked_patches_show_the_mask_token_and_nothing_of_the_image() -> None:
    encoder, token = vit().eval(), torch.randn(48)
    images = torch.randn(2, 3, 32, 32)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 5] = mask[1, 15] = True
    found = encoder(images, tokens=True, mask=mask, mask_token=token)
    changed = images.clone()
    changed[0, :, 8:16, 8:16] += 1  # patch 5: second row, second column
    changed[1, :, 24:, 24:] += 1
    again = encoder(changed, tokens=True, mask=mask, mask_token=token)
    assert torch.equal(found.patches, again.patches)
    assert not torch.equal(found.patches, encoder(images, tokens=True).patches)
    seen = encoder.pos_embed[0, 6] + token
    embedded = encoder._embedded(images, mask, token)[0]
    torch.testing.assert_close(embedded[0, 6], seen)


def test_the_initialisation_is_the_seeds_and_leaves_the_global_stream_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (vit(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_mocov3_positions_are_the_papers_and_stay() -> None:
    encoder = vit(arch=f"{ARCH},position=sincos")
    assert not encoder.pos_embed.requires_grad and encoder.pos_embed[0, 0].abs().max() == 0
    for row, column, k in ((0, 0, 0), (1, 3, 2), (3, 2, 11)):  # as build_2d_sincos_position_embedding has it, by hand
        omega = 1 / 10000 ** (k / 12)
        place = encoder.pos_embed[0, 1 + 4 * row + column].tolist()
        angle = torch.tensor([row * omega, column * omega], dtype=torch.float64)
        wanted = torch.stack([angle[0].sin(), angle[0].cos(), angle[1].sin(), angle[1].cos()]).tolist()
        assert [place[k + 12 * part] for part in range(4)] == pytest.approx(wanted, abs=1e-6)
    bound = (6 / (3 * 8 * 8 + 48)) ** 0.5
    assert 0.9 * bound < encoder.patch_embed.proj.weight.abs().max() <= bound
    assert 0.9 * (6 / 96) ** 0.5 < encoder.blocks[0].attn.qkv.weight.abs().max() <= (6 / 96) ** 0.5
    with pytest.raises(WeightsError, match="multiple of 4"):
        sincos((2, 2), 6)


def test_drop_path_draws_from_torch_and_only_in_training() -> None:
    encoder = build_encoder(ARCH, "imagenet", 0, size=32, model=MODEL, drop_path=0.5)
    images = torch.randn(8, 3, 32, 32)
    torch.manual_seed(1)
    one = encoder(images)
    torch.manual_seed(1)
    assert torch.equal(encoder(images), one)
    torch.manual_seed(2)
    assert not torch.equal(encoder(images), one)
    encoder.eval()
    assert torch.equal(encoder(images), vit().eval()(images))


@pytest.mark.parametrize(
    ("arch", "model", "said"),
    [
        (
            "vit_tiny_patch16_225",
            {},
            r"arch vit_tiny_patch16_225: timm .* has no such model \(did you mean vit_tiny_patch16_224",
        ),
        ("vit_small_patch16_dinov3", {}, "timm refuses it: Eva"),
        (
            "vit_base_patch16_siglip_gap_224:width=48,depth=1,heads=3,position=sincos",
            {"patch_size": 8},
            "position sincos is MoCo v3's, of a class token and a table of positions; it lacks one",
        ),
        (ARCH, {"global_pool": "max"}, "global_pool max: wanted cls or avg or cls"),
        (ARCH, {"patch_size": 0}, "patch_size 0: wanted 1 to 256"),
        (ARCH, {"patch_size": True}, "patch_size True: wanted 1 to 256"),
        (ARCH, {"rotation": 1}, "rotation: no part of a vision transformer"),
        (ARCH, {"pre_norm": "yes"}, "pre_norm yes: wanted true or false"),
        (f"{ARCH.replace('heads=3', 'heads=5')}", {}, "timm refuses it"),
    ],
)
def test_what_makes_no_transformer_is_refused_in_one_line(arch: str, model: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        build_encoder(arch, "imagenet", 0, size=32, model=model)
    assert "\n" not in str(caught.value)


def test_settings_of_the_other_family_are_refused() -> None:
    with pytest.raises(WeightsError, match="patch_size 8: arch resnet18 is a ResNet"):
        build_encoder("resnet18", "imagenet", 0, model={"patch_size": 8})
    with pytest.raises(WeightsError, match=r"stem cifar: arch .* is a vision transformer"):
        build_encoder(ARCH, "cifar", 0)
    with pytest.raises(WeightsError, match=r"zero_init_residual: arch .* is a vision transformer"):
        build_encoder(ARCH, "imagenet", 0, zero_init_residual=True)


def test_a_file_gives_back_the_encoder_at_any_size_and_pool(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    encoder = vit().eval()
    save_encoder(path, encoder, facts())
    loaded, images = load_encoder(path), torch.randn(2, 3, 32, 32)
    assert loaded.facts == facts() and loaded.notes == ()
    assert torch.equal(loaded.module(images), encoder(images))
    wide = load_encoder(path, size=48, global_pool="cls+avg")
    assert wide.notes == (
        "features are pooled by cls+avg, as asked; its own are by cls",
        "positions made for 32 pixels are interpolated to 48 (bicubic, antialiased)",
    )
    assert wide.facts.size == 48 and wide.module(torch.randn(2, 3, 48, 48)).shape == (2, 96)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": '{"patch_size": 16}'}, "do not fit"),
        ({"model": '{"rotation": 1}'}, "rotation: no part of a vision transformer"),
        ({"model": "[1, 2]"}, "not an encoder's safetensors"),
        ({"model": "{"}, "not an encoder's safetensors"),
        ({"model": '{"x": "' + 500 * "a" + '"}'}, "its model has"),
        ({"arch": "vit_tiny_patch16_224:width=8192,depth=128"}, "do not fit"),
        ({"arch": "vit_nothing"}, "timm .* has no such model"),
        ({"stem": "cifar"}, "stem 'cifar': wanted one of patch"),
        ({"size": "33"}, "patch_size 8: does not divide images of 33 pixels"),
        ({"timm": "anything"}, ""),
    ],
)
def test_metadata_that_a_stranger_wrote_end_in_one_line(change: dict[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, vit(), facts())
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, **change})
    if not said:
        assert load_encoder(path).facts == facts()
        return
    with pytest.raises(WeightsError, match=said) as caught:
        load_encoder(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800


def test_timm_reads_what_is_exported(tmp_path: Path) -> None:
    encoder = vit().eval()
    export_encoder(encoder, tmp_path / "vit.safetensors", "timm")
    theirs = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=48, depth=3, num_heads=3, patch_size=8, img_size=32, num_classes=0
    ).eval()
    theirs.load_state_dict(load_file(tmp_path / "vit.safetensors"), strict=True)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(theirs(images), encoder(images), atol=1e-5, rtol=1e-5)
    for format, name in (("torchvision", "x.pth"), ("detectron2", "x.pkl")):
        with pytest.raises(GenRepError, match=f"format {format}: knows no vision transformer .*wanted timm"):
            export_encoder(encoder, tmp_path / name, format)
    assert isinstance(encoder, nn.Module) and not (tmp_path / "x.pth").exists()
