"""A model folder, read as a stranger's: bounded regular files inside the folder, strict JSON, safetensors, known classes.

    model_index.json                                  the pipeline's class, and library and class of each component
    scheduler/scheduler_config.json
    unet/config.json, unet/diffusion_pytorch_model.safetensors, likewise vae and transformer
    text_encoder/config.json, text_encoder/model.safetensors
    tokenizer/vocab.json, merges.txt, tokenizer.json, tokenizer_config.json, ...

Weights in several files have an index, ``NAME.safetensors.index.json``. Pickled weights are never read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep import tensor_files
from genrep.datasets_manifest.strict_json import parse_json
from genrep.errors import ManifestError, WeightsError, one_of
from genrep.files import canonical_json
from genrep.untrusted import content_faults, printable, read_bounded, read_object, shown

from .allowed import PIPELINES, PipelineKind, classes_of

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model_index.json"
MAX_CONFIG = 1 << 20  # bytes of a file of settings
MAX_INDEX = 16 << 20  # of an index of shards
MAX_VOCABULARY = 64 << 20  # of a tokenizer's file
MAX_SHARDS, MAX_LIST, MAX_NUMBER, MAX_LAYERS = 256, 4096, 1 << 24, 512
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
NAMES = ("diffusion_pytorch_model", "model")
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
# Keys of settings that name versions, places and number formats, none of which the function depends on.
IRRELEVANT = {
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    "name_or_path",
    "is_local",
    "local_files_only",
}
UNSAFE = ("auto_map", "quantization_config", "attn_implementation", "_attn_implementation", "custom_pipelines")
_SHARD = re.compile(r"[\w.-]{1,100}-\d{5}-of-\d{5}\.safetensors", re.ASCII)


@dataclass
class ModelFolder:
    """A folder whose index was read and found to name known classes only."""

    path: Path
    pipeline: str
    kind: PipelineKind
    classes: dict[str, tuple[str, str]]  # (library, class) of each component that is used
    index: dict[str, Any]  # further keys of model_index.json: genrep, is_distilled
    only: frozenset[str] | None = None  # the files that may be read; None: all
    notes: list[str] = field(default_factory=list)

    def config(self, component: str, name: str = "config.json") -> dict[str, Any]:
        """The settings of a component, without keys that say nothing. Raises WeightsError."""
        config = read_settings(self.file(f"{component}/{name}"), self.where(f"{component}/{name}"))
        _check_sizes(config, self.where(f"{component}/{name}"))
        return config

    def file(self, name: str) -> Path:
        """The path of a file inside the folder, behind links that stay inside. Raises WeightsError."""
        if not self.has(name):
            raise WeightsError(f"{self.where(name)}: missing")
        return inside(self.path, name)

    def has(self, name: str) -> bool:
        """Whether the folder has an entry of this name that may be read."""
        return (self.only is None or name in self.only) and os.path.lexists(self.path / name)

    def where(self, name: str) -> str:
        """A file of the folder as messages name it."""
        return f"weights {printable(str(self.path))}/{name}"

    def tensors(self, component: str) -> dict[str, Tensor]:
        """The tensors of a component as they are stored. Raises WeightsError."""
        tensors: dict[str, Tensor] = {}
        for name in self.weight_files(component):
            found, _ = tensor_files.read_safetensors(self.file(name), self.where(name))
            if twice := sorted(found.keys() & tensors.keys()):
                raise WeightsError(f"{self.where(name)}: the tensor {shown(twice[0])} is in another file too")
            tensors.update(found)
        return tensors

    def weight_files(self, component: str) -> list[str]:
        """The safetensors files of a component, relative to the folder. Raises WeightsError where there are none."""
        entries = self._entries(component)
        pickled = [entry for entry in entries if entry.endswith(PICKLES)]
        for variant in ("", ".fp16"):
            for name in NAMES:
                plain = f"{name}{variant}.safetensors"
                index = f"{name}.safetensors.index{variant}.json"
                found = [plain] if plain in entries else self._shards(component, index) if index in entries else []
                if found:
                    if variant:
                        self.notes.append(f"{component}: only its fp16 weights are there")
                    if pickled:
                        self.notes.append(f"{component}: {', '.join(pickled[:3])} beside the safetensors not read")
                    return [f"{component}/{file}" for file in found]
        beside = f"; {printable(pickled[0])} is pickled and is never read: convert it to safetensors" if pickled else ""
        raise WeightsError(f"{self.where(component)}: no safetensors file ({', '.join(NAMES)}){beside}")

    def _entries(self, component: str) -> list[str]:
        try:
            names = sorted(os.listdir(inside(self.path, component)))
        except OSError as error:
            raise WeightsError(f"{self.where(component)}: cannot be read ({error.strerror})") from None
        return [name for name in names if self.only is None or f"{component}/{name}" in self.only]

    def _shards(self, component: str, index: str) -> list[str]:
        where = self.where(f"{component}/{index}")
        parsed = _parsed(read_bounded(self.file(f"{component}/{index}"), MAX_INDEX, WeightsError), where)
        table = parsed.get("weight_map")
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            raise WeightsError(f"{where}: no table weight_map of tensors to files")
        names = sorted(set(table.values()))
        bad = [name for name in names if not _SHARD.fullmatch(name)]
        if bad or not 0 < len(names) <= MAX_SHARDS:
            found = shown(bad[0]) if bad else f"{len(names)} files"
            raise WeightsError(
                f"{where}: names {found}, wanted 1 to {MAX_SHARDS} files NAME-00001-of-00002.safetensors"
            )
        return names

    def tokenizer_files(self, component: str) -> dict[str, Path]:
        """The files of a tokenizer that say what it does, by name. Raises WeightsError for one that is too large."""
        found = {}
        for name in TOKENIZER_FILES:
            if self.has(f"{component}/{name}"):
                path = found[name] = self.file(f"{component}/{name}")
                if (size := path.stat().st_size) > MAX_VOCABULARY:
                    raise WeightsError(
                        f"{self.where(f'{component}/{name}')}: {size:,} bytes, wanted at most {MAX_VOCABULARY:,}"
                    )
        return found


def open_folder(path: Path, only: Iterable[str] | None = None) -> ModelFolder:
    """Read a folder's index.

    Args:
        only: the files that may be read, relative to the folder; None = all.

    Raises:
        WeightsError: it is no model folder, or names a class that is not known.
    """
    if not os.path.isdir(path):
        raise WeightsError(f"weights {printable(str(path))}: not a folder; wanted one with {INDEX}")
    if not os.path.lexists(path / INDEX):
        raise WeightsError(f"weights {printable(str(path))}: holds no {INDEX}; wanted a model folder of diffusers")
    where = f"weights {printable(str(path))}/{INDEX}"
    index = _parsed(read_bounded(inside(path, INDEX), MAX_CONFIG, WeightsError), where)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise WeightsError(f"{where}: _class_name is {shown(name)}; known: {one_of(name, PIPELINES)}")
    kind = PIPELINES[name]
    folder = ModelFolder(
        path=path,
        pipeline=name,
        kind=kind,
        classes={},
        index={},
        only=None if only is None else frozenset(only),
    )
    for key, value in index.items():
        _take(folder, key, value, where)
    for component in kind.components:
        if component not in folder.classes:
            raise WeightsError(f"{where}: {name} needs a component {component!r}, which it does not name")
    return folder


def _take(folder: ModelFolder, key: str, value: Any, where: str) -> None:
    """A key of the index: a component, a setting of the pipeline, or one to refuse."""
    kind = folder.kind
    if key in UNSAFE:
        raise WeightsError(f"{where}: {key} would run code of the model's authors, which is never done")
    if key.startswith("_") or value is None or value is False or value == [None, None]:
        return
    if not isinstance(value, list):
        if key not in ("genrep", "is_distilled", "requires_safety_checker", "force_zeros_for_empty_prompt", "id2label"):
            raise WeightsError(f"{where}: unknown key {shown(key)}")
        if key in ("genrep", "is_distilled"):
            folder.index[key] = value
        return
    if len(value) != 2 or not all(isinstance(part, str) for part in value):
        raise WeightsError(f"{where}: {shown(key)} is {shown(value)}, wanted [library, class]")
    if key in kind.unused and key not in kind.components:
        folder.notes.append(f"{key}: not used, not read")
        return
    if key not in kind.components:
        raise WeightsError(f"{where}: {folder.pipeline} has no component {shown(key)}")
    known = classes_of(kind.kind, key)
    if tuple(value) not in known:
        names = one_of(value[1], dict.fromkeys(name for _, name in known))
        raise WeightsError(f"{where}: {key} is {shown('.'.join(value))}, which is not known; known: {names}")
    folder.classes[key] = (value[0], value[1])


def inside(folder: Path, name: str) -> Path:
    """A path below the folder with its links followed. Raises WeightsError if they lead out of it."""
    try:
        root, path = folder.resolve(strict=True), (folder / name).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise WeightsError(f"weights {printable(str(folder))}/{printable(name)}: missing") from None
    if not path.is_relative_to(root):
        raise WeightsError(
            f"weights {printable(str(folder))}/{printable(name)}: a link out of the folder; copy it with its content (cp -rL)"
        )
    return path


def read_settings(path: Path, where: str) -> dict[str, Any]:
    """The object in a JSON file, without irrelevant keys. Raises WeightsError; also for keys that ask to run code."""
    return _settings(_parsed(read_bounded(path, MAX_CONFIG, WeightsError), where), where)


def read_tokenizer_settings(path: Path) -> dict[str, Any]:
    """Likewise of a tokenizer, whose published settings have numbers of 31 digits. Raises WeightsError."""
    where = f"weights {path}"
    settings = _settings(read_object(path, WeightsError, MAX_CONFIG), where)
    with content_faults(where, WeightsError):
        canonical_json(settings)
    return settings


def _settings(parsed: dict[str, Any], where: str) -> dict[str, Any]:
    for key in UNSAFE:
        if parsed.get(key) is not None:
            raise WeightsError(f"{where}: {key} is set, which is never followed; remove it if the model works without")
    return {key: value for key, value in parsed.items() if key not in IRRELEVANT and _says_something(key)}


def _says_something(key: str) -> bool:
    return not key.startswith("_") or key == "_class_name"


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = parse_json(data, where, infinite=True)  # as in the settings of schedulers
    except ManifestError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(parsed, dict):
        raise WeightsError(f"{where}: a JSON {type(parsed).__name__}, wanted an object")
    return parsed


def _check_sizes(config: dict[str, Any], where: str) -> None:
    """Refuse numbers that no network has, before one is built of them."""
    for key, value in config.items():
        items = value if isinstance(value, list) else [value]
        if len(items) > MAX_LIST:
            raise WeightsError(f"{where}: {shown(key)} has {len(items):,} items, wanted at most {MAX_LIST:,}")
        bound = MAX_LAYERS if "layer" in key or "depth" in key or "blocks" in key else MAX_NUMBER
        for item in items:
            if isinstance(item, int) and not -bound <= item <= bound:
                raise WeightsError(f"{where}: {shown(key)} is {shown(item)}, wanted at most {bound:,}")
