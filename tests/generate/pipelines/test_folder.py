"""Model folders of strangers: what is read, what is left, what is refused, each refusal in one line that names the place."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from pipeline_checks import latents
from safetensors.torch import load_file, save_file
from tiny_pipelines import write_flow, write_pixels, write_stable_diffusion

from genrep.errors import WeightsError
from genrep.generate import load_generator
from genrep.generate.generators.diffusers import family

pytestmark = pytest.mark.slow

WEIGHTS = "diffusion_pytorch_model.safetensors"


def change(path: Path, **keys: object) -> None:
    """Set keys of a JSON file; None removes one."""
    value = {**json.loads(path.read_text()), **keys}
    gone = {key for key, item in keys.items() if item is None}
    path.write_text(json.dumps({key: item for key, item in value.items() if key not in gone}))


def refused(folder: Path, **options: object) -> str:
    """The line that refuses a folder."""
    with pytest.raises(WeightsError) as caught:
        family.open_folder(folder, **options)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 900, message
    assert str(folder) in message
    return message


class Bomb:
    """Would leave a trace if a pickle of it were read."""

    def __reduce__(self):
        return (os.mkdir, ("read",))


def test_pickles_are_never_read(copied, tmp_path, monkeypatch):
    folder = copied(write_pixels)
    monkeypatch.chdir(tmp_path)
    pickled = folder / "unet/diffusion_pytorch_model.bin"
    pickled.write_bytes(pickle.dumps(Bomb()))
    loaded = family.open_folder(folder, steps=1)
    assert loaded.facts["notes"] == ["unet: diffusion_pytorch_model.bin beside the safetensors not read"]
    (folder / "unet" / WEIGHTS).unlink()
    message = refused(folder)
    assert "unet: no safetensors file" in message
    assert "diffusion_pytorch_model.bin is pickled and is never read: convert it to safetensors" in message
    assert not (tmp_path / "read").exists()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"_class_name": "StableDiffusionXLPipeline"},
            "_class_name is 'StableDiffusionXLPipeline'; known: DDPMPipeline",
        ),
        ({"_class_name": ["pipeline", "Mine"]}, "_class_name is ['pipeline', 'Mine']"),
        ({"_class_name": None}, "_class_name is None"),
        (
            {"unet": ["diffusers", "UNet1DModel"]},
            "unet is 'diffusers.UNet1DModel', which is not known; known: UNet2DModel",
        ),
        ({"unet": ["os", "UNet2DModel"]}, "unet is 'os.UNet2DModel', which is not known"),
        ({"unet": ["custom_code", "Net"]}, "unet is 'custom_code.Net', which is not known"),
        ({"unet": None}, "DDIMPipeline needs a component 'unet'"),
        ({"unet": "UNet2DModel"}, "unknown key 'unet'"),
        ({"unet": ["diffusers", "UNet2DModel", "x"]}, "wanted [library, class]"),
        ({"scheduler": ["diffusers", "DPMSolverSDEScheduler"]}, "which is not known; known: CMStochastic"),
        ({"vae": ["diffusers", "AutoencoderKL"]}, "DDIMPipeline has no component 'vae'"),
        ({"lora": 3}, "unknown key 'lora'"),
        ({"auto_map": {"a": "b"}}, "auto_map would run code of the model's authors, which is never done"),
        ({"genrep": {"null_class": True}}, "the last class is the null class, but unet has no classes"),
        ({"genrep": {"nul_class": True}}, "known: ['channels', 'null_class', 'prediction']"),
        ({"\x1b[31m": 3}, r"unknown key '\x1b[31m'"),
    ],
)
def test_an_index_that_names_what_is_not_known(copied, keys, expected):
    folder = copied(write_pixels)
    change(folder / "model_index.json", **keys)
    assert expected in refused(folder)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sample_sise": 32}, "unknown key 'sample_sise' = 32"),
        ({"_class_name": "UNet1DModel"}, "_class_name is 'UNet1DModel', model_index.json says UNet2DModel"),
        ({"layers_per_block": 10**9}, "'layers_per_block' is 1000000000, wanted at most 512"),
        ({"block_out_channels": [4, 2**40]}, "'block_out_channels' is 1099511627776, wanted at most 16,777,216"),
        ({"block_out_channels": [4] * 5000}, "'block_out_channels' has 5,000 items, wanted at most 4,096"),
        ({"block_out_channels": [4, 1 << 20]}, "config.json: "),
        ({"down_block_types": ["Mine", "AttnDownBlock2D"]}, "Mine"),
        ({"block_out_channels": [8, 8]}, "which its settings do not"),
        ({"block_out_channels": [4, 12]}, "has shape"),
        ({"layers_per_block": 2}, "lacks the tensor"),
        ({"auto_map": {"AutoModel": "x.y"}}, "auto_map is set, which is never followed"),
        ({"class_embed_type": "timestep"}, "lacks the tensor"),
    ],
)
def test_settings_that_do_not_fit(copied, keys, expected):
    folder = copied(write_pixels)
    change(folder / "unet/config.json", **keys)
    assert expected in refused(folder)


def test_settings_that_ask_for_nothing_are_no_fault(copied):
    folder = copied(write_pixels)
    digest = family.open_folder(folder, steps=1).digest
    change(folder / "unet/config.json", dual_cross_attention=False, _diffusers_version="9", _name_or_path="/x")
    change(folder / "model_index.json", requires_safety_checker=False)
    assert family.open_folder(folder, steps=1).digest != digest  # a new key, though one that asks for nothing
    change(folder / "unet/config.json", dual_cross_attention=None)
    assert family.open_folder(folder, steps=1).digest == digest


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "not JSON"),
        (b"[1]", "a JSON list, wanted an object"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"[" * 100000, "not JSON"),
        (b"\xff\xfe", "not JSON: its bytes are not text"),
        (b" " * (1 << 21), "2,097,152 bytes, wanted at most 1,048,576"),
    ],
)
@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_files_of_settings_that_are_none(copied, name, content, expected):
    folder = copied(write_pixels)
    (folder / name).write_bytes(content)
    message = refused(folder)
    assert expected in message or ("nested deeper" in message and expected == "not JSON")
    assert name in message


def test_files_that_are_missing(copied, tmp_path):
    folder = copied(write_pixels)
    for name in ("scheduler/scheduler_config.json", "unet/config.json", "model_index.json"):
        (folder / name).unlink()
        message = refused(folder)
        assert name in message and ("missing" in message or "holds no model_index.json" in message)
    shutil.rmtree(folder / "unet")
    assert "not a folder" in refused(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["unet/config.json", f"unet/{WEIGHTS}", "model_index.json", "unet"])
def test_links_out_of_the_folder(copied, tmp_path, name):
    folder = copied(write_pixels)
    outside = tmp_path / "outside"
    shutil.move(folder / name, outside)
    (folder / name).symlink_to(outside)
    assert "a link out of the folder; copy it with its content (cp -rL)" in refused(folder)
    inside = folder / "blob"
    shutil.move(outside, inside)
    (folder / name).unlink()
    (folder / name).symlink_to(inside)
    family.open_folder(folder, steps=1)


def test_pipes_are_not_waited_for(copied):
    folder = copied(write_pixels)
    (folder / "unet/config.json").unlink()
    os.mkfifo(folder / "unet/config.json")
    assert "wanted a regular file" in refused(folder)
    shutil.copy(folder / "model_index.json", folder / "x")
    (folder / "unet" / WEIGHTS).unlink()
    os.mkfifo(folder / "unet" / WEIGHTS)
    assert "wanted a regular file" in refused(folder)


def test_tensors_that_do_not_fit(copied):
    folder = copied(write_pixels)
    path = folder / "unet" / WEIGHTS
    tensors = load_file(path)
    name = sorted(tensors)[0]

    def written(content):
        save_file(content, path)
        return refused(folder)

    assert f"lacks the tensor '{name}'" in written({key: value for key, value in tensors.items() if key != name})
    assert "has the tensor 'extra' (1 in all), which its settings do not" in written(
        {**tensors, "extra": torch.zeros(1)}
    )
    assert f"the tensor '{name}' has shape (3,), wanted" in written({**tensors, name: torch.zeros(3)})
    assert "is torch.int64, wanted torch.float32" in written({**tensors, name: torch.zeros_like(tensors[name]).long()})
    save_file(tensors, path)
    whole = path.read_bytes()
    for cut in (4, 100, len(whole) - 10):
        path.write_bytes(whole[:cut])
        assert "not a readable safetensors file" in refused(folder)
    path.write_bytes((1 << 40).to_bytes(8, "little") + whole[8:])
    assert "a header of 1,099,511,627,776 bytes" in refused(folder)


def test_weights_in_several_files(copied):
    folder = copied(write_pixels)
    before = family.open_folder(folder, steps=1)
    path = folder / "unet" / WEIGHTS
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    files = [f"diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    save_file({name: tensors[name] for name in names[::2]}, folder / "unet" / files[0])
    save_file({name: tensors[name] for name in names[1::2]}, folder / "unet" / files[1])
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    table = {name: files[number % 2] for number, name in enumerate(names)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    after = family.open_folder(folder, steps=1)
    assert after.digest == before.digest
    z = latents(before.generator, 1)
    with torch.no_grad():
        assert torch.equal(after.generator.synthesize(z), before.generator.synthesize(z))
    for wrong, expected in (
        ("../../outside-00001-of-00001.safetensors", "names '../../outside"),
        ("weights.bin", "names 'weights.bin'"),
        (3, "no table weight_map"),
        ("diffusion_pytorch_model-00003-of-00003.safetensors", "missing"),
    ):
        index.write_text(json.dumps({"weight_map": {**table, names[0]: wrong}}))
        assert expected in refused(folder)
    shutil.copy(folder / "unet" / files[0], folder / "unet" / "again-00001-of-00001.safetensors")
    index.write_text(json.dumps({"weight_map": {**table, "x": "again-00001-of-00001.safetensors"}}))
    assert "is in another file too" in refused(folder)


def test_names_of_other_versions_of_the_libraries(copied):
    """CLIP's tensors with their old prefix and constants; attention of old autoencoders."""
    folder = copied(write_stable_diffusion)
    before = family.open_folder(folder, steps=2, guidance=1).generator
    path = folder / "text_encoder/model.safetensors"
    tensors = {f"text_model.{name}": tensor for name, tensor in load_file(path).items()}
    save_file({**tensors, "text_model.embeddings.position_ids": torch.arange(77)[None]}, path)
    path = folder / "vae" / WEIGHTS
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    tensors = {}
    for name, tensor in load_file(path).items():
        for new, before_that in old.items():
            if ".attentions." in name:
                name = name.replace(new, before_that)
        tensors[name] = tensor
    assert any(".query." in name for name in tensors)
    save_file(tensors, path)
    after = family.open_folder(folder, steps=2, guidance=1).generator
    z = latents(before, 1)
    with torch.no_grad():
        assert torch.equal(after.synthesize(z, ["a"]), before.synthesize(z, ["a"]))


def test_the_digest_is_of_content(copied, tmp_path):
    folder = copied(write_flow, classes=3)
    digest = family.open_folder(folder).digest
    moved = tmp_path / "elsewhere" / "other"
    shutil.copytree(folder, moved)
    change(moved / "model_index.json", _diffusers_version="0.1", _name_or_path="org/model")
    change(moved / "unet/config.json", _name_or_path="org/model")
    assert family.open_folder(moved).digest == digest
    assert family.open_folder(moved, steps=7, dtype="bfloat16").digest == digest
    change(moved / "scheduler/scheduler_config.json", shift=2.0)
    assert family.open_folder(moved).digest != digest
    shutil.rmtree(moved)
    shutil.copytree(folder, moved)
    tensors = load_file(moved / "unet" / WEIGHTS)
    name = sorted(tensors)[3]
    save_file({**tensors, name: tensors[name] + 1e-3}, moved / "unet" / WEIGHTS)
    assert family.open_folder(moved).digest != digest
    save_file({key: value.half() for key, value in tensors.items()}, moved / "unet" / WEIGHTS)
    assert family.open_folder(moved).digest != digest
    shutil.copy(folder / "unet" / WEIGHTS, moved / "unet" / WEIGHTS)
    change(moved / "model_index.json", genrep={"null_class": False})
    assert family.open_folder(moved).digest != digest


def test_the_tokenizer_belongs_to_the_digest(copied):
    folder = copied(write_stable_diffusion)
    digest = family.open_folder(folder, steps=1).digest
    change(folder / "tokenizer/tokenizer_config.json", name_or_path="elsewhere")
    assert family.open_folder(folder, steps=1).digest == digest
    change(folder / "tokenizer/tokenizer_config.json", model_max_length=70)
    assert family.open_folder(folder, steps=1).digest != digest
    change(folder / "tokenizer/tokenizer_config.json", model_max_length=10**30)
    assert "model_max_length is" in refused(folder)
    change(folder / "tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["x.y", None]})
    assert "auto_map is set, which is never followed" in refused(folder)
    (folder / "tokenizer/tokenizer_config.json").unlink()
    (folder / "tokenizer/tokenizer.json").write_text("{}")
    assert "not a tokenizer CLIPTokenizer" in refused(folder)


def test_components_that_are_not_used_are_told(copied):
    folder = copied(write_stable_diffusion)
    change(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert family.open_folder(folder, steps=1).facts["notes"] == ["safety_checker: not used, not read"]


def test_only_the_files_of_a_recipe_are_read(copied):
    folder = copied(write_pixels)
    names = ["model_index.json", "unet/config.json", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"]
    family.open_folder(folder, steps=1, only=names)
    for name in names[1:]:
        with pytest.raises(WeightsError, match=r"missing|no safetensors file"):
            family.open_folder(folder, steps=1, only=[other for other in names if other != name])


def test_without_the_packages_the_way_to_them_is_told(copied, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(WeightsError, match=r"family diffusers need diffusers .*; (pip install|install genrep)"):
        family.open_folder(copied(write_pixels))


def test_a_folder_is_recognised_without_a_recipe(written):
    generator = load_generator(weights=written(write_pixels)[0], steps=2)
    assert generator.schedule.steps == 2
    with pytest.raises(WeightsError, match="no such folder; wanted a model folder"):
        load_generator("diffusers", weights="nowhere")
