"""``encoder.safetensors``: every key of torchvision's state dict but ``fc``, batch-norm buffers included, no prefix.

Its metadata say ``arch``, ``stem``, ``size`` (pixels trained at), ``mean`` and ``std`` (JSON lists). Others' checkpoints are
read too, and no code of theirs is run: safetensors by that library, pickles by ``genrep.unpickle``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genrep.errors import WeightsError
from genrep.files import file_and_network, sha256_file, write_atomic
from genrep.state_dicts import NoSuchNetwork, is_program
from genrep.tensor_files import is_safetensors, read_safetensors, safetensors_bytes
from genrep.untrusted import content_faults, label, printable, read_bounded

from . import ENCODER_FILE, PATCH, EncoderFacts
from .architectures import architecture
from .layouts import check_fit, find_resnet, misfits_of, plain, shapes_of
from .loaded import LoadedEncoder, built, check_facts, default_facts, with_overrides

if TYPE_CHECKING:
    from .vit_checkpoints import FoundTransformer

__all__ = ["LoadedEncoder", "load_encoder", "save_encoder"]

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_METADATA = ("arch", "stem", "size", "mean", "std")
_MODEL = "model"  # of a vision transformer
_LONGEST = 400  # characters of each
_PROGRAM = "a TorchScript program, read like its state_dict()"


def save_encoder(path: Path, encoder: nn.Module, facts: EncoderFacts) -> None:
    """Write an encoder, whole or not at all: the same one and the same facts give the same bytes.

    Raises WeightsError for facts that ``load_encoder`` would refuse.
    """
    check_facts(facts, str(path))
    metadata = {
        "arch": facts.arch,
        "stem": facts.stem,
        "size": str(facts.size),
        "mean": json.dumps(list(facts.mean)),
        "std": json.dumps(list(facts.std)),
    }
    if architecture(facts.arch).is_vit:
        from .vision_transformer import timm_config

        metadata[_MODEL] = json.dumps(dict(facts.model), sort_keys=True)
        if (config := timm_config(facts)) is not None:
            metadata["timm"] = json.dumps(config)
    write_atomic(path, safetensors_bytes(encoder.state_dict(), metadata))


def load_encoder(
    source: str | Path,
    *,
    global_pool: str | None = None,
    heads: int | None = None,
    act_layer: str | None = None,
    size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> LoadedEncoder:
    """Read an encoder: ours, the checkpoint of a ResNet or a vision transformer, or the module of a factory.

    Args:
        source: a run's folder; its ``encoder.safetensors``; a checkpoint (``.pth``, ``.pt``, ``.tar``, ``.ckpt``, ``.bin``,
            ``.pkl``, ``.safetensors``) that holds a ResNet in one of the layouts of ``names.py``, or a vision transformer in
            one of ``vit_checkpoints/names.py``; an index of shards, or a folder that holds one of these under transformers'
            names; each with ``#PREFIX`` behind it to take that one of several networks; or ``package.module:factory``
            (``factories.py``), the only one of these that runs code.
        global_pool: what a vision transformer's features are, one of ``POOLS``, instead of what its file says.
        heads, act_layer: number of heads and activation of another's vision transformer, which leave no trace in its tensors.
        size, mean, std: the images' size and normalisation. They replace the file's, or 224 and ImageNet's where it has none.

    Raises:
        WeightsError: the encoder is missing, not finite or incomplete. Nothing is ever left at its random initialisation.
    """
    path, network = file_and_network(source)
    hints = {"heads": heads, "act_layer": act_layer}
    if not path.exists() and _FACTORY.fullmatch(str(source)):
        from .factories import open_factory

        _refuse(str(source), "anyone's own network", global_pool=global_pool, **hints)
        return open_factory(str(source), size=size, mean=mean, std=std)
    if path.is_dir():
        path = file_in(path)
    if not path.exists():
        raise WeightsError(
            f"{printable(str(path))}: no such encoder; wanted the folder of a finished run of genrep-train, a checkpoint, "
            "or package.module:factory"
        )
    with content_faults(path, WeightsError, "an encoder"):
        content, metadata, digest = _read(path)
        if metadata.keys().isdisjoint({"arch", "stem"}) or network is not None:
            return _foreign(path, content, digest, network, global_pool, hints, size=size, mean=mean, std=std)
        _refuse(printable(str(path)), "an encoder of genrep-train, which says it itself", **hints)
        return _ours(path, content, metadata, digest, global_pool, size=size, mean=mean, std=std)


def _read(path: Path) -> tuple[Any, dict[str, str], str]:
    """A file's content, its metadata if it has any, and its digest."""
    if path.name.endswith(INDEX):
        content, digest = read_index(path)
        return content, {}, digest
    if is_safetensors(path):
        return *read_safetensors(path, printable(str(path))), sha256_file(path)
    from genrep.unpickle import read_file

    return read_file(path, scripts=True), {}, sha256_file(path)


def _ours(
    path: Path,
    state: dict[str, Tensor],
    metadata: dict[str, str],
    digest: str,
    global_pool: str | None,
    **overrides: Any,
) -> LoadedEncoder:
    where = printable(str(path))
    if missing := [name for name in _METADATA if name not in metadata]:
        raise WeightsError(f"{where}: its metadata lack {missing[0]!r}; wanted an encoder that genrep-train wrote")
    for name in (*_METADATA, *({_MODEL} & metadata.keys())):
        if len(metadata[name]) > _LONGEST:
            raise WeightsError(f"{where}: its {name} has {len(metadata[name]):,} characters; wanted {_LONGEST} at most")
    with content_faults(f"{where}: not an encoder's safetensors", WeightsError, "those of genrep-train"):
        facts = EncoderFacts(
            arch=metadata["arch"],
            stem=metadata["stem"],
            size=int(metadata["size"]),
            mean=tuple(float(value) for value in json.loads(metadata["mean"])),
            std=tuple(float(value) for value in json.loads(metadata["std"])),
            model=dict(json.loads(metadata.get(_MODEL, "{}"))),
        )
    check_facts(facts, f"{where}: not an encoder's safetensors")
    try:
        wanted = shapes_of(facts)
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from None
    check_fit(misfits_of(state, wanted), facts.arch, where)
    if facts.stem != PATCH:
        _refuse(where, "a ResNet", global_pool=global_pool)
    module = _filled(facts, plain(state, wanted, where))
    told, digest, said = _pooled(facts, module, digest, global_pool)
    facts = with_overrides(told, **overrides)
    said += _positions_said(module, facts)
    return LoadedEncoder(module=module, facts=facts, path=path, sha256=digest, notes=said)


def _refuse(where: str, what: str, **given: object) -> None:
    """Raise WeightsError for a setting of others' vision transformers that was given for something else."""
    for name, value in given.items():
        if value is not None:
            raise WeightsError.naming(
                f"{{{name}}} {{}}: {{}} is {{}}; wanted a vision transformer, or no {{{name}}}", value, where, what
            )


def _pooled(
    facts: EncoderFacts, module: Any, digest: str, global_pool: str | None
) -> tuple[EncoderFacts, str, tuple[str, ...]]:
    """Facts, digest and notes of a transformer whose features are pooled as asked, which its module does from now on.

    Pooled otherwise than the file says it is another encoder: results and cached features know it by this.
    """
    if global_pool is None or global_pool == (own := module.pooled_by):
        return facts, digest, ()
    module.pool(global_pool)
    digest = hashlib.sha256(f"{digest}#global_pool={global_pool}".encode()).hexdigest()
    said = f"features are pooled by {global_pool}, as asked; its own are by {own}"
    return replace(facts, model={**facts.model, "global_pool": global_pool}), digest, (said,)


def _positions_said(module: Any, facts: EncoderFacts) -> tuple[str, ...]:
    """What happens to a transformer's positions where images have another size than its table was made for."""
    said = module.interpolated((facts.size, facts.size)) if facts.stem == PATCH else None
    return () if said is None else (said,)


def _foreign(
    path: Path,
    content: object,
    digest: str,
    network: str | None,
    global_pool: str | None,
    hints: Mapping[str, Any],
    **overrides: Any,
) -> LoadedEncoder:
    from .vit_checkpoints import find_transformer  # timm, which takes seconds to import

    where = printable(str(path))
    program = (f"{_PROGRAM}: its code is not run",) if is_program(content) else ()
    transformer, fault = None, None
    try:
        transformer = find_transformer(content, where, network, path=path, safe=is_safetensors(path), **hints)
    except NoSuchNetwork as error:  # it may be a ResNet beside a transformer
        fault = error
    if transformer is not None:
        transformer = replace(transformer, notes=(*program, *transformer.notes))
        return _foreign_transformer(path, transformer, digest, network, global_pool, **overrides)
    try:
        found = find_resnet(content, where, network)
    except WeightsError as error:
        if fault is not None:
            raise fault from None
        if is_program(content):
            raise WeightsError(f"{where}: {_PROGRAM}: {str(error).removeprefix(f'{where}: ')}") from None
        raise
    _refuse(where, "a ResNet", global_pool=global_pool, **hints)
    facts = with_overrides(default_facts(found.arch, found.stem), **overrides)
    assumed = [name for name, value in overrides.items() if value is None]
    said = [f"{', '.join(assumed)}: not in the file; assuming {facts.size} pixels and ImageNet's"] if assumed else []
    if network is not None:  # another encoder than the file's others: results and cached features know it by this
        path, digest = _as_chosen(path, digest, found.prefix)
    return LoadedEncoder(
        module=_filled(facts, found.state),
        facts=facts,
        path=path,
        sha256=digest,
        left_out=found.left_out,
        notes=(*program, f"{found.arch} with the {found.stem} stem", *found.notes, *said),
    )


def _foreign_transformer(
    path: Path,
    found: FoundTransformer,
    digest: str,
    network: str | None,
    global_pool: str | None,
    **overrides: Any,
) -> LoadedEncoder:
    module = _filled(found.facts, found.state)
    if found.digest is not None:  # built by more than the file: another encoder than the file alone
        digest = hashlib.sha256(f"{digest}#{found.digest}".encode()).hexdigest()
    told, digest, said = _pooled(found.facts, module, digest, global_pool)
    facts = with_overrides(told, **overrides)
    if facts.size != told.size and "rotary" not in told.model:
        facts = replace(facts, model={**facts.model, "table_size": told.model.get("table_size", told.size)})
    if network is not None:
        path, digest = _as_chosen(path, digest, found.prefix)
    notes = [line for line in found.notes if line.partition(":")[0] not in _given(overrides)]
    return LoadedEncoder(
        module=module,
        facts=facts,
        path=path,
        sha256=digest,
        left_out=found.left_out,
        notes=(*notes, *said, *_positions_said(module, facts)),
    )


def _given(overrides: Mapping[str, Any]) -> set[str]:
    """How notes begin that tell what was assumed where the user has said it."""
    names = {name for name, value in overrides.items() if value is not None}
    return names | ({"mean, std"} if {"mean", "std"} <= names else set())


def _as_chosen(path: Path, digest: str, prefix: str) -> tuple[Path, str]:
    """Path and digest of one of several networks in a file."""
    chosen = hashlib.sha256(f"{digest}#{prefix}".encode()).hexdigest()
    return Path(f"{path}#{label(prefix.rstrip('.')) or '.'}"), chosen


def _filled(facts: EncoderFacts, state: Mapping[str, Tensor]) -> nn.Module:
    with torch.device("meta"):  # names and shapes only: no initialisation to throw away, and none that could stay
        module = built(facts)
    module.load_state_dict(state, assign=True)
    return module.eval()


INDEX = ".index.json"
_FILES = (
    ENCODER_FILE,
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    f"model.safetensors{INDEX}",
    f"pytorch_model.bin{INDEX}",
)
_SUFFIXES = {".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".torch"}
_LARGEST_INDEX = 1 << 24  # bytes
_MOST_SHARDS = 1000
_SHOWN = 5


def file_in(folder: Path) -> Path:
    """The encoder's file in a folder, found by the usual names. Raises WeightsError if there is none."""
    for name in _FILES:
        if (folder / name).exists():
            return folder / name
    others = sorted(label(path.name) for path in _checkpoints(folder))
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    found = f"; it holds {', '.join(others[:_SHOWN])}{more}: name the file itself" if others else ""
    raise WeightsError(
        f"{printable(str(folder))}: no such encoder in this folder; wanted {ENCODER_FILE} (of a finished run of genrep-train), "
        f"{', '.join(_FILES[1:3])} or an index of one{found}"
    )


def _checkpoints(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    except OSError as error:
        raise WeightsError(f"{printable(str(folder))}: {error.strerror}") from None


def read_index(path: Path) -> tuple[dict[str, Any], str]:
    """The tensors of all shards that an index names, and a digest of the index and of every shard.

    Raises:
        WeightsError: the file is not an index, names a file in another folder, or a shard lacks a tensor that the index lists.
    """
    where = printable(str(path))
    text = read_bounded(path, _LARGEST_INDEX, WeightsError, follow=True)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{where}: not an index of shards ({label(error)})") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise WeightsError(f"{where}: not an index of shards; wanted weight_map, a table of tensors' names and files")
    shards = sorted(set(places.values()))
    if len(shards) > _MOST_SHARDS:
        raise WeightsError(f"{where}: an index of {len(shards)} shards; wanted at most {_MOST_SHARDS}")
    digest = hashlib.sha256(text)
    tensors: dict[str, Any] = {}
    for shard in shards:
        if shard in ("", ".", "..") or Path(shard).name != shard or "\0" in shard:
            raise WeightsError(
                f"{where}: it names the shard {label(shard)}; wanted the name of a file beside the index"
            )
        held = _read_part(path.with_name(shard))
        mine = {name for name, place in places.items() if place == shard}
        if missing := sorted(mine - held.keys()):
            raise WeightsError(
                f"{where}: {label(missing[0])} is not in {label(shard)}, where the index says that it is"
            )
        if twice := sorted(held.keys() & tensors.keys()):
            raise WeightsError(f"{where}: {label(twice[0])} is in two shards")
        tensors |= held
        digest.update(bytes.fromhex(sha256_file(path.with_name(shard))))
    return tensors, digest.hexdigest()


def _read_part(path: Path) -> dict[str, Any]:
    if is_safetensors(path):
        return dict(read_safetensors(path, printable(str(path)))[0])
    from genrep.unpickle import read_file

    found = read_file(path)
    if not isinstance(found, dict):
        raise WeightsError(
            f"{printable(str(path))}: it holds a {label(type(found).__name__)}; wanted a dictionary of tensors"
        )
    return found
