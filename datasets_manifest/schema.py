"""The schema of manifest.json and of the shard jsons, checked strictly (docs/format.md describes them).

The functions take parsed JSON (``strict_json``) and raise ManifestError; ``where`` is the file that the line names.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from typing import Any

from genrep.errors import ManifestError
from genrep.files import digest_json
from genrep.untrusted import shown

from . import layout
from .strict_json import want_integer, want_list, want_object, want_sha256, want_text

SCHEMA_VERSION = 1
MAX_SHARDS = 100_000  # what five digits can name
MAX_FIELDS = 1000  # what is done per shard costs time per field
MAX_SIDE = 8192  # pixels; bounds what decoding one image can cost
MIN_VARYING_SIDE = 8  # pixels, where images vary in size: what a thumbnail of a fingerprint needs
MAX_LATENT_VALUES = 1 << 24
MAX_NAME_BYTES = 16  # FFCV cuts longer field names silently
MAX_SEED = (1 << 64) - 1
MAX_FINGERPRINT_PAIRS = 8
MAX_THUMBNAIL_SIDE = 8  # pixels
INT_FIELDS = ("label", "index")
ROW_FIELD = "row"  # only where a generator is conditioned on instances

TOP_KEYS = frozenset({"schema_version", "id", "recipe", "fields", "classes", "build", "shards", "digest"})
SHARD_KEYS = frozenset({"name", "first_index", "count", "bytes", "sha256", "latents_sha256"})
FINGERPRINT_KEYS = frozenset({"indices", "size", "thumbnails"})
RECIPE_KEYS = frozenset({"num_pairs", "pairs_per_shard", "seed"})
FIELD_KEYS = {
    "image": frozenset({"name", "kind", "shape", "encoding"}),
    "float32": frozenset({"name", "kind", "shape"}),
    "int": frozenset({"name", "kind"}),
}
VARYING_IMAGE_KEYS = frozenset({"name", "kind", layout.MAX_SHAPE, "encoding"})
SHARD_NAME = re.compile(r"shard-[0-9]{5}\.beton")
ENCODING = re.compile(r"raw|jpeg:([1-9][0-9]?|100)(:444)?")


def shard_name(k: int) -> str:
    """File name of shard ``k``: ``shard-00000.beton``. Raises ValueError outside 0 to 99,999."""
    if not 0 <= k < MAX_SHARDS:
        raise ValueError(f"shard number {k}, wanted 0 to {MAX_SHARDS - 1}")
    return f"shard-{k:05d}.beton"


def shard_record_name(k: int) -> str:
    """File name of the json beside shard ``k``: ``shard-00000.json``. Raises ValueError outside 0 to 99,999."""
    return shard_name(k).removesuffix(".beton") + ".json"


def field_table(
    image_shape: tuple[int, int],
    encoding: str,
    *,
    varying: bool = False,
    num_positives: int = 0,
    z_anchor: Sequence[int] | None = None,
    z_positive: Sequence[int] | None = None,
    instances: bool = False,
) -> list[dict[str, Any]]:
    """The fields of a dataset in the order of its betons.

    ``image_shape`` is (height, width) of the stored images, the greatest of each where they are ``varying``; ``encoding``
    ``raw``, ``jpeg:QUALITY`` or ``jpeg:QUALITY:444``; ``z_anchor`` and ``z_positive`` are the shapes of the latents
    (``z_positive`` defaults to ``z_anchor``; None for real images, which have no latents and no positives). ``instances`` adds
    ``row``, the row of the instance features that a pair was made with (IC-GAN). Raises ManifestError for what the format
    cannot hold.
    """
    images, latents = _field_names(num_positives)
    fields: list[dict[str, Any]] = [
        {
            "name": name,
            "kind": "image",
            layout.MAX_SHAPE if varying else "shape": [*image_shape, 3],
            "encoding": encoding,
        }
        for name in images
    ]
    if z_anchor is not None:
        shapes = [z_anchor] + [z_positive if z_positive is not None else z_anchor] * num_positives
        fields += [{"name": name, "kind": "float32", "shape": list(shape)} for name, shape in zip(latents, shapes)]
    fields += [{"name": name, "kind": "int"} for name in (*INT_FIELDS, *([ROW_FIELD] if instances else []))]
    check_fields(fields, "field table")
    return fields


def _field_names(num_positives: int) -> tuple[list[str], list[str]]:
    """Names of the images and of the latents."""
    images = ["anchor", *(f"positive_{k}" if k else "positive" for k in range(num_positives))]
    return images, [f"z_{name}" for name in images]


def check_manifest(value: Any, where: str) -> None:
    """Refuse anything but a complete, consistent manifest of this schema version."""
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is {shown(value)}, wanted an object")
    version = value.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise ManifestError(f"{where}: schema_version is {shown(version)}, this program reads {SCHEMA_VERSION}")
    want_object(value, where, TOP_KEYS, open_ended=False)
    digest = want_sha256(value["digest"], f"{where}: digest")
    actual = digest_json({key: item for key, item in value.items() if key != "digest"})
    if actual != digest:
        raise ManifestError(f"{where}: edited or damaged: its digest is {actual}, it states {digest}")
    recipe = want_object(value["recipe"], f"{where}: recipe", RECIPE_KEYS, open_ended=True)
    identity = want_sha256(value["id"], f"{where}: id")
    if (actual := digest_json(recipe)) != identity:
        raise ManifestError(f"{where}: id is {identity}, the recipe's digest is {actual}")
    want_object(value["build"], f"{where}: build", frozenset(), open_ended=True)
    for i, name in enumerate(want_list(value["classes"], f"{where}: classes")):
        want_text(name, f"{where}: classes[{i}]")
    check_fields(value["fields"], where)
    _check_shards(value["shards"], recipe, where)


def check_shard(value: Any, where: str) -> None:
    """Refuse anything but the description of one shard; extra keys are facts about how it was made."""
    want_object(value, where, SHARD_KEYS, open_ended=True)
    name = value["name"]
    if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
        raise ManifestError(f"{where}: name is {shown(name)}, wanted shard-NNNNN.beton")
    want_integer(value["first_index"], f"{where}: first_index")
    want_integer(value["count"], f"{where}: count", 1)
    want_integer(value["bytes"], f"{where}: bytes", 1)
    want_sha256(value["sha256"], f"{where}: sha256")
    want_sha256(value["latents_sha256"], f"{where}: latents_sha256")
    if "fingerprint" in value:
        _check_fingerprint(value["fingerprint"], value["first_index"], value["count"], f"{where}: fingerprint")


def _check_fingerprint(value: Any, first: int, count: int, where: str) -> None:
    """Small pictures of a few pairs of the shard, of the anchor or of the anchor and its first positive."""
    want_object(value, where, FINGERPRINT_KEYS, open_ended=False)
    indices = want_list(value["indices"], f"{where}: indices")
    low = first
    for index in indices:
        low = want_integer(index, f"{where}: indices", low, first + count - 1) + 1
    if not 1 <= len(indices) <= MAX_FINGERPRINT_PAIRS:
        raise ManifestError(f"{where}: {len(indices)} indices, wanted 1 to {MAX_FINGERPRINT_PAIRS}")
    size = want_list(value["size"], f"{where}: size")
    if len(size) != 2:
        raise ManifestError(f"{where}: size is {shown(size)}, wanted [rows, columns]")
    for side in size:
        want_integer(side, f"{where}: size", 1, MAX_THUMBNAIL_SIDE)
    one = len(indices) * 3 * size[0] * size[1]
    wanted = (one, 2 * one)
    text = want_text(value["thumbnails"], f"{where}: thumbnails")
    try:
        found = len(base64.b64decode(text, validate=True)) if len(text) <= 4 * one else -1
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        found = -1
    if found not in wanted:
        raise ManifestError(f"{where}: thumbnails is {shown(text)}, wanted {one} or {2 * one} bytes in base64")


def _check_shards(value: Any, recipe: dict[str, Any], where: str) -> None:
    """Shards in order, without gap or overlap, as many pairs as the recipe says."""
    pairs = want_integer(recipe["num_pairs"], f"{where}: recipe: num_pairs", 1)
    per_shard = want_integer(recipe["pairs_per_shard"], f"{where}: recipe: pairs_per_shard", 1)
    want_integer(recipe["seed"], f"{where}: recipe: seed", 0, MAX_SEED)
    shards = want_list(value, f"{where}: shards")
    if not 1 <= len(shards) <= MAX_SHARDS:
        raise ManifestError(f"{where}: {len(shards)} shards, wanted 1 to {MAX_SHARDS}")
    names: set[str] = set()
    following = 0
    for k, shard in enumerate(shards):
        place = f"{where}: shards[{k}]"
        check_shard(shard, place)
        name, first, count = shard["name"], shard["first_index"], shard["count"]
        if name in names:
            raise ManifestError(f"{place}: {name} appears twice")
        if name != shard_name(k):
            raise ManifestError(f"{place}: name is {name}, wanted {shard_name(k)}")
        if first != following:
            fault = "a gap" if first > following else "an overlap"
            raise ManifestError(f"{place}: first_index is {first}, wanted {following} ({fault})")
        if count != per_shard and (k < len(shards) - 1 or count > per_shard):
            raise ManifestError(f"{place}: count is {count}, the recipe's pairs_per_shard is {per_shard}")
        names.add(name)
        following += count
    if following != pairs:
        raise ManifestError(f"{where}: the shards hold {following} pairs, the recipe's num_pairs is {pairs}")


def check_fields(value: Any, where: str) -> None:
    """Refuse a field table that is not anchor, positives, their latents, label, index (and perhaps row), in this order."""
    fields = want_list(value, f"{where}: fields")
    if len(fields) > MAX_FIELDS:
        raise ManifestError(f"{where}: {len(fields)} fields, wanted at most {MAX_FIELDS}")
    for i, field in enumerate(fields):
        _check_field(field, f"{where}: fields[{i}]")
    kinds = [field["kind"] for field in fields]
    num_images, num_latents = kinds.count("image"), kinds.count("float32")
    images, latents = _field_names(max(num_images - 1, 0))
    if num_latents == 0 and num_images > 1:
        raise ManifestError(f"{where}: fields: {num_images} images without latents, wanted the anchor only")
    names = [field["name"] for field in fields]
    integers = [*INT_FIELDS, ROW_FIELD] if names[-1:] == [ROW_FIELD] else [*INT_FIELDS]
    wanted = [*images, *(latents if num_latents else []), *integers]
    if names != wanted:
        raise ManifestError(f"{where}: fields are {shown(names, 200)}, wanted {shown(wanted, 200)}")
    wanted_kinds = ["image"] * num_images + ["float32"] * num_latents + ["int"] * len(integers)
    if kinds != wanted_kinds:
        raise ManifestError(f"{where}: fields are of kinds {shown(kinds, 200)}, wanted {shown(wanted_kinds, 200)}")
    for field in fields[1:num_images]:
        if {**field, "name": ""} != {**fields[0], "name": ""}:
            raise ManifestError(f"{where}: fields: {field['name']} differs from anchor in shape or encoding")


def _check_field(field: Any, where: str) -> None:
    kind = field.get("kind") if isinstance(field, dict) else None
    if not isinstance(kind, str) or kind not in FIELD_KEYS:
        raise ManifestError(f"{where} is {shown(field)}, wanted an object whose kind is one of {sorted(FIELD_KEYS)}")
    key = layout.MAX_SHAPE if kind == "image" and layout.varies(field) else "shape"
    want_object(field, where, FIELD_KEYS[kind] if key == "shape" else VARYING_IMAGE_KEYS, open_ended=False)
    name = want_text(field["name"], f"{where}: name")
    if not name.isascii() or len(name) > MAX_NAME_BYTES:
        raise ManifestError(f"{where}: name is {shown(name)}, wanted at most {MAX_NAME_BYTES} ASCII characters")
    if kind == "image":
        shape = want_list(field[key], f"{where}: {key}")
        if len(shape) != 3 or type(shape[2]) is not int or shape[2] != 3:
            raise ManifestError(f"{where}: {key} is {shown(shape)}, wanted [height, width, 3]")
        for side in shape[:2]:
            want_integer(side, f"{where}: {key}", 1 if key == "shape" else MIN_VARYING_SIDE, MAX_SIDE)
        if not isinstance(field["encoding"], str) or not ENCODING.fullmatch(field["encoding"]):
            raise ManifestError(
                f"{where}: encoding is {shown(field['encoding'])}, wanted raw or jpeg:1 to jpeg:100, or these with :444"
            )
    elif kind == "float32":
        shape = want_list(field["shape"], f"{where}: shape")
        for size in shape:
            want_integer(size, f"{where}: shape", 1, MAX_LATENT_VALUES)
        if not 1 <= len(shape) <= 32 or math.prod(shape) > MAX_LATENT_VALUES:
            raise ManifestError(
                f"{where}: shape is {shown(shape)}, wanted 1 to 32 sizes of a product <= {MAX_LATENT_VALUES}"
            )
