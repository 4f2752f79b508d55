"""Others' vision transformers, laid out as their authors' code writes them, give the features of that code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import vit_recipe
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genrep.encoders import LoadedEncoder, build_encoder, export_encoder, load_encoder, save_encoder
from genrep.encoders.vit_checkpoints import find_transformer
from genrep.errors import WeightsError

State = dict[str, Tensor]
ALL_SAY = (
    "openclip_hub",
    "hf_",
    "timm_vit_hub",
    "timm_dinov2",
    "clip_",
    "dinov3",
)  # their heads, by what lies in the file
TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}


def heads(case: str) -> int | None:
    return None if case.startswith(ALL_SAY) else vit_recipe.facts(case)["heads"]


def opened(case: str, folder: Path, network: str = "", **given: Any) -> LoadedEncoder:
    path = vit_recipe.write(case, folder / case)
    if case == "openclip_train":
        given = {"act_layer": "quick_gelu", **given}
    return load_encoder(f"{path}{network}", heads=heads(case), **given)


def features(encoder: LoadedEncoder, images: Tensor) -> Any:
    with torch.no_grad():
        return encoder.module(images, tokens=True)


@pytest.mark.parametrize("case", vit_recipe.CASES)
def test_features_are_those_of_the_authors_code_at_every_size(case: str, tmp_path: Path) -> None:
    encoder, golden = opened(case, tmp_path), vit_recipe.golden(case)
    tolerance = vit_recipe.facts(case)["tolerance"]
    for name in [name.removeprefix("x") for name in golden if name.startswith("x")]:
        found = features(encoder, golden[f"x{name}"])
        assert (found.cls - golden[f"cls{name}"]).abs().max() < tolerance, name
        assert (found.patches - golden[f"patches{name}"]).abs().max() < tolerance, name
        assert torch.equal(found.pooled, found.cls)
    assert encoder.left_out or not vit_recipe.AROUND.get(case)


@pytest.mark.parametrize(
    ("case", "taken", "other", "golden"),
    [
        ("dino_full", "teacher.backbone", "student.module.backbone", "student_cls"),
        ("mocov3", "state_dict.module.base_encoder", "state_dict.module.momentum_encoder", "momentum_cls"),
        ("timm_train", "state_dict_ema", "state_dict", "raw_cls"),
    ],
)
def test_of_several_networks_the_one_that_authors_evaluate_is_taken(
    case: str, taken: str, other: str, golden: str, tmp_path: Path
) -> None:
    usual, chosen = opened(case, tmp_path), opened(case, tmp_path, f"#{other.split('.', 1)[-1]}")
    said = next(note for note in usual.notes if note.startswith("took the network"))
    assert f"at {taken}, which authors evaluate, not the one at {other} (" in said and f"#{other} takes that" in said
    wanted = vit_recipe.golden(case)
    tolerance = vit_recipe.facts(case)["tolerance"]
    assert (features(chosen, wanted["x"]).cls - wanted[golden]).abs().max() < tolerance
    assert usual.sha256 != chosen.sha256 and str(chosen.path).endswith(f"#{other}")
    with pytest.raises(WeightsError, match=r"names 0 of its 2 vision transformers"):
        opened(case, tmp_path, "#nowhere")


@pytest.mark.parametrize(
    ("case", "part", "taken"),
    [
        ("dino_full", "student", "student.module.backbone"),
        ("dino_full", "module.backbone", "student.module.backbone"),
        ("mocov3", "momentum_encoder", "state_dict.module.momentum_encoder"),
    ],
)
def test_any_part_of_a_networks_name_chooses_it(case: str, part: str, taken: str, tmp_path: Path) -> None:
    encoder = opened(case, tmp_path, f"#{part}")
    assert str(encoder.path).endswith(f"#{taken}")
    assert any(f"took the network at {taken}, as asked, not the one at" in note for note in encoder.notes)
    shared = "state_dict" if case == "mocov3" else "backbone"
    with pytest.raises(WeightsError, match=r"names 2 of its 2 vision transformers; wanted one of"):
        opened(case, tmp_path / "again", f"#{shared}")


@pytest.mark.parametrize("case", ["stablerep", "synclr"])
def test_an_activation_without_trace_may_be_given(case: str, tmp_path: Path) -> None:
    encoder, golden = opened(case, tmp_path, act_layer="quick_gelu"), vit_recipe.golden(case)
    assert (features(encoder, golden["x"]).cls - golden["cls_quickgelu"]).abs().max() < 1e-4
    assert encoder.sha256 != opened(case, tmp_path).sha256


@pytest.mark.parametrize("case", [case for case in vit_recipe.CASES if heads(case) is not None])
def test_heads_are_never_guessed_where_no_rule_tells_them(case: str, tmp_path: Path) -> None:
    path = vit_recipe.write(case, tmp_path)
    with pytest.raises(WeightsError, match=r"number of heads is not in the file.*give heads$"):
        load_encoder(path)
    with pytest.raises(WeightsError, match=r"heads 5: wanted a divisor of its width"):
        load_encoder(path, heads=5)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("dino_backbone", "DINO's offset of 0.1"),
        ("mae_release", "bicubic, without antialiasing"),
        ("mocov3", "the sine-cosine table of the new grid"),
        ("timm_vit_hub", "bicubic, antialiased"),
    ],
)
def test_interpolation_is_said_in_its_authors_way(case: str, words: str, tmp_path: Path) -> None:
    said = opened(case, tmp_path, size=64)
    assert any(note.startswith("positions made for 32 pixels are") and words in note for note in said.notes)
    assert said.facts.size == 64 and not any("interpolated to" in note for note in opened(case, tmp_path).notes)


@pytest.mark.parametrize("case", vit_recipe.CASES)
def test_as_our_own_file_it_is_the_same_encoder(case: str, tmp_path: Path) -> None:
    encoder, golden = opened(case, tmp_path), vit_recipe.golden(case)
    save_encoder(tmp_path / "e.safetensors", encoder.module, encoder.facts)
    again = load_encoder(tmp_path / "e.safetensors")
    assert again.facts == encoder.facts
    for name in ("x", "x_alt0") if "x_alt0" in golden else ("x",):
        assert torch.equal(features(again, golden[name]).patches, features(encoder, golden[name]).patches)


@pytest.mark.parametrize("case", ["dinov2_hub_reg", "clip_fp32", "hf_vit_classifier", "timm_train", "mae_release"])
def test_timm_builds_and_fills_what_is_exported(case: str, tmp_path: Path) -> None:
    encoder, golden = opened(case, tmp_path), vit_recipe.golden(case)
    export_encoder(encoder.module, tmp_path / "out.safetensors", "timm", encoder.facts)
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        config = json.loads(file.metadata()["timm"])
    theirs = timm.create_model(config["architecture"], **config["model_args"]).eval()
    theirs.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    table = encoder.facts.model.get("table_size", encoder.facts.size)
    images = torch.randn(2, 3, table, table)
    with torch.no_grad():
        tokens = theirs.forward_features(images)
    assert (features(encoder, images).cls - tokens[:, 0]).abs().max() < 1e-3  # timm has no word for another epsilon
    assert golden["x"].shape[-1] <= table


@pytest.mark.parametrize("case", ["mocov3_convstem", "dinov3_hub"])
def test_what_timm_cannot_build_is_not_exported(case: str, tmp_path: Path) -> None:
    encoder = opened(case, tmp_path)
    with pytest.raises(WeightsError, match=r"format timm: has no network with the parts of this one"):
        export_encoder(encoder.module, tmp_path / "out.safetensors", "timm", encoder.facts)


def drawn(name: str = "vit_tiny_patch16_224", **arguments: Any) -> Any:
    """timm's network with weights that show every slip."""
    torch.manual_seed(0)
    model = timm.create_model(name, **{**TIMM, **arguments}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (0.5 if parameter.dim() == 1 else 0))
    return model


def configured(folder: Path, model: nn.Module, name: str, **arguments: Any) -> Path:
    """A folder as timm pushes it to a hub."""
    config = {"architecture": name, "model_args": {**TIMM, **arguments}, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]}}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"num_heads": 6, "global_pool": "avg"}),
        ("vit_tiny_patch16_224", {"num_heads": 4, "class_token": False, "global_pool": "avg", "fc_norm": False}),
        (
            "vit_tiny_patch16_224",
            {"qkv_bias": False, "mlp_ratio": 2.7, "depth": 3, "global_pool": "avg", "fc_norm": False},
        ),
        ("vit_base_patch16_clip_quickgelu_224", {"num_classes": 5}),
        ("deit3_small_patch16_224", {"patch_size": 4}),
        ("vit_medium_patch16_reg4_gap_256", {}),
        ("vit_giant_patch14_dinov2", {"mlp_ratio": 5.34}),
        ("vit_tiny_patch16_224", {"act_layer": "gelu_tanh"}),
    ],
)
def test_every_option_of_timm_is_followed(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    model = drawn(name, dynamic_img_size=True, **arguments)
    encoder = load_encoder(configured(tmp_path, model, name, **arguments))
    model.reset_classifier(0)
    for size in (32, 48):
        images = torch.randn(2, 3, size, size)
        with torch.no_grad():
            assert (encoder.module(images) - model(images)).abs().max() < 1e-4
    assert encoder.facts.mean == (0.1, 0.2, 0.3)


def test_dinov2s_names_of_a_gated_layer(tmp_path: Path) -> None:
    model = drawn("vit_giant_patch14_dinov2", mlp_ratio=5.34)
    names = {".fc1.": ".w12.", ".fc2.": ".w3."}
    state = {"mask_token": torch.zeros(1, 48)}
    for name, tensor in model.state_dict().items():
        for one, other in names.items():
            name = name.replace(one, other)
        state[name] = tensor
    torch.save(state, tmp_path / "g.pth")
    encoder, images = load_encoder(tmp_path / "g.pth", heads=3), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert (encoder.module(images) - model.forward_features(images)[:, 0]).abs().max() < 1e-4
    assert encoder.notes[0].startswith("a vision transformer of DINOv2: ") and encoder.left_out == (
        "mask_token (1 tensor)",
    )


def test_published_sizes_are_called_by_timms_names_and_evaluated_as_published() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_small_patch16_224", num_classes=0, patch_size=14, img_size=518, init_values=1.0)
    whole = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in model.state_dict().items()}
    found = find_transformer({**whole, "mask_token": torch.zeros(1, 384)}, "f.pth")
    assert found is not None and found.facts.arch == "vit_small_patch16_224" and found.facts.size == 224
    assert found.facts.model["table_size"] == 518
    assert "heads: not in the file; assuming 6, of 64 channels" in found.notes


Change = Callable[[State], object]


def without(name: str) -> Change:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def with_also(name: str, *shape: int, value: float = 0) -> Change:
    return lambda state: {**state, name: torch.full(shape, value)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("blocks.1.mlp.fc2.bias"), r"1 tensors do not fit vit_\S+: blocks.1.mlp.fc2.bias is missing"),
        (without("pos_embed"), r"pos_embed is missing; it has no table of positions"),
        (without("norm.weight"), r"norm.weight is missing"),
        (with_also("pos_embed", 1, 12, 48), r"a table of 12 positions; wanted a square of patches"),
        (with_also("blocks.0.norm1.bias", 47), r"blocks.0.norm1.bias has shape \(47,\), wanted \(48,\)"),
        (with_also("dist_token", 1, 1, 48), r"dist_token is unknown; it has a token for distillation \(DeiT\)"),
        (
            with_also("blocks.0.attn.relative_position_bias_table", 9, 3),
            r"is unknown; it has relative positions \(BEiT\)",
        ),
        (with_also("blocks.0.attn.q_norm.weight", 16), r"is unknown; it has norms of queries and keys"),
        (with_also("attn_pool.latent", 1), r"is unknown; it has features pooled by attention"),
        (with_also("blocks.0.norm1.weight", 48, value=float("nan")), r"blocks.0.norm1.weight is not finite"),
        (
            with_also("patch_embed.proj.weight", 48, 4, 8, 8),
            r"a kernel \(48, 4, 8, 8\); wanted a square one of 3 channels",
        ),
        (with_also("patch_embed.proj.weight", 48, 3, 0, 0), r"a kernel \(48, 3, 0, 0\); wanted a square"),
        (with_also("blocks.200.norm1.bias", 48), r"depth 201; wanted a whole number from 1 to 128"),
        (
            lambda state: {"a": state, "b": {**state, "norm.bias": torch.ones(48)}},
            r"2 different vision transformers \(a, b\)",
        ),
    ],
)
def test_whole_or_not_at_all(change: Change, message: str, tmp_path: Path) -> None:
    torch.save(change(drawn().state_dict()), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=f"^{tmp_path}/a.pth: .*{message}"):
        load_encoder(tmp_path / "a.pth", heads=3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", r"config.json: a JSON list; wanted an object"),
        ("{", r"config.json: not JSON"),
        ('{"architecture": 1}', r'architecture is 1; wanted a name'),
        ('{"architecture": "x", "model_args": {"num_heads": 0}}', r"num_heads is 0; wanted a whole number from 1 to 8192"),
        ('{"architecture": "x", "model_args": {"num_heads": true}}', r"num_heads is true; wanted a whole number"),
        ('{"architecture": "x", "model_args": {"num_heads": 5}}', r"heads 5: wanted a divisor of its width 48"),
        ('{"architecture": "x", "model_args": {"embed_dim": 64}}', r"embed_dim is 64; wanted 48, as the tensors of"),
        ('{"architecture": "x", "model_args": {"qk_norm": true}}', r"model_args qk_norm is true; wanted arguments of a plain"),
        ('{"architecture": "x", "model_args": {"act_layer": "relu"}}', r'act_layer is "relu"; wanted one of gelu'),
        ('{"architecture": "x", "global_pool": "map"}', r'global_pool is "map"; wanted token'),
        ('{"architecture": "x", "model_args": {}, "pretrained_cfg": {"mean": [1, 2]}}', r"mean is \[1, 2\]; wanted"),
    ],
)  # fmt: skip
def test_a_configuration_is_checked(config: str, message: str, tmp_path: Path) -> None:
    save_file(drawn().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(WeightsError, match=message):
        load_encoder(tmp_path, heads=None if "num_heads" in config else 3)


def test_a_configuration_of_something_else_is_passed_over(tmp_path: Path) -> None:
    save_file({**drawn().state_dict(), "head.weight": torch.zeros(2, 48)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "clip", "hidden_size": 1}')
    encoder = load_encoder(tmp_path, heads=3)
    assert encoder.notes[0].startswith("a vision transformer of timm: width 48, depth 2, 3 heads")
    assert not any("read beside it" in note for note in encoder.notes)


def test_a_resnet_beside_a_transformer_may_be_chosen(tmp_path: Path) -> None:
    resnet = build_encoder("resnet18:width=4", "imagenet", 0)
    torch.save({"vit": drawn().state_dict(), "net": resnet.state_dict()}, tmp_path / "a.pth")
    assert load_encoder(tmp_path / "a.pth", heads=3).facts.stem == "patch"
    assert load_encoder(f"{tmp_path / 'a.pth'}#net").facts.arch == "resnet18:width=4"
    with pytest.raises(WeightsError, match=r"names 0 of its 1 vision transformers; wanted one of .*#vit"):
        load_encoder(f"{tmp_path / 'a.pth'}#none")


def test_hints_are_of_others_transformers_only(tmp_path: Path) -> None:
    torch.save(build_encoder("resnet18:width=4", "imagenet", 0).state_dict(), tmp_path / "r.pth")
    with pytest.raises(WeightsError, match=r"heads 3: .*r.pth is a ResNet; wanted a vision transformer, or no heads"):
        load_encoder(tmp_path / "r.pth", heads=3)
    encoder = opened("dino_backbone", tmp_path)
    save_encoder(tmp_path / "e.safetensors", encoder.module, encoder.facts)
    with pytest.raises(WeightsError, match=r"act_layer gelu: .* is an encoder of genrep-train, which says it itself"):
        load_encoder(tmp_path / "e.safetensors", act_layer="gelu")


class Part(nn.Module):
    """A module of nothing but parts, tensors and a function that fails when it runs."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[0] > 1 << 40
        return x


def program(state: State, path: Path) -> Path:
    """An archive as OpenAI distributes CLIP: a TorchScript program."""
    root = Part()
    for name, tensor in state.items():
        part = root
        for step in name.split(".")[:-1]:
            if step not in part._modules:
                part.add_module(step, Part())
            part = getattr(part, step)
        part.register_buffer(name.rpartition(".")[2], tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format outlives the functions that write it
        torch.jit.script(root).save(str(path))
    return path


def test_clips_own_archive_is_read_and_its_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.load(vit_recipe.write("clip_fp16", tmp_path), weights_only=True)
    path = program(state, tmp_path / "ViT-B-16.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    encoder, golden = load_encoder(path), vit_recipe.golden("clip_fp16")
    assert (features(encoder, golden["x"]).cls - golden["cls"]).abs().max() < 2e-4
    assert encoder.notes[0] == "a TorchScript program, read like its state_dict(): its code is not run"
    del state["visual.ln_post.bias"]
    with pytest.raises(WeightsError, match=r"1 tensors do not fit vit_\S+: norm.bias is missing"):
        load_encoder(program(state, tmp_path / "part.pt"))


def test_a_folder_as_open_clip_pushes_it_is_an_encoder(tmp_path: Path) -> None:
    vit_recipe.write("openclip_hub", tmp_path).rename(path := tmp_path / "open_clip_model.safetensors")
    assert load_encoder(tmp_path).path == path


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    content = {"teacher": {f"backbone.{name}": tensor for name, tensor in drawn().state_dict().items()}}
    torch.save({**content, "args": Attack(tmp_path / "touched")}, tmp_path / "a.pth")
    assert load_encoder(tmp_path / "a.pth", heads=3).facts.size == 32
    assert not (tmp_path / "touched").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "touched").exists()  # it would have been
