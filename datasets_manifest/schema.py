"""The schema of manifest.json and of the shard jsons, checked strictly (docs/format.md describes them).

Version 2 is written, 1 and 2 are read. In version 1 all latents are stored, and there are neither tables nor float fields.

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

SCHEMA_VERSION = 2  # that is written
READ_VERSIONS = (1, 2)
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
PROMPT_FIELD = "prompt"  # only where it is conditioned on prompts: the row of prompts.jsonl
SOURCE_FIELD = "source"  # only where anchors are real images: the row of sources.jsonl
WEIGHT_FIELD = "weight"  # the one float that is a pair's and not a positive's
FLOAT_NAME = re.compile(r"[a-z][a-z_]*(_[1-9][0-9]*)?")
TAKEN_NAME = re.compile(r"z_.*|(anchor|positive|prompt|label|index|row|source)(_[0-9]+)?")  # which no float may have
TABLES = {
    "prompts.jsonl": (PROMPT_FIELD, "prompts"),
    "sources.jsonl": (SOURCE_FIELD, "anchors"),
}  # field, key of recipe
MAX_TABLE_ROWS = 10_000_000
MAX_TABLE_BYTES = 16 << 30
LATENTS_STORED = "latents_stored"  # the key, always false, of a recipe whose latents are not all stored

TOP_KEYS = frozenset({"schema_version", "id", "recipe", "fields", "classes", "build", "shards", "digest"})
TABLES_KEY = "tables"  # besides, where there are any
TABLE_KEYS = frozenset({"name", "sha256", "bytes", "count"})
SHARD_KEYS = frozenset({"name", "first_index", "count", "bytes", "sha256", "latents_sha256"})
FINGERPRINT_KEYS = frozenset({"indices", "size", "thumbnails"})
RECIPE_KEYS = frozenset({"num_pairs", "pairs_per_shard", "seed"})
FIELD_KEYS = {
    "image": frozenset({"name", "kind", "shape", "encoding"}),
    "float32": frozenset({"name", "kind", "shape"}),
    "float": frozenset({"name", "kind"}),
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


def field_table(  # noqa: PLR0913  what a dataset may have, as keywords
    image_shape: tuple[int, int],
    encoding: str,
    *,
    varying: bool = False,
    num_positives: int = 0,
    z_anchor: Sequence[int] | None = None,
    z_positive: Sequence[int] | None = None,
    latents_stored: bool = True,
    floats: Sequence[str] = (),
    instances: bool = False,
    prompts: int = 0,
    sources: bool = False,
) -> list[dict[str, Any]]:
    """The fields of a dataset, in order; a shard holds those of ``layout.in_beton``.

    Args:
        image_shape: (height, width) of the stored images, the greatest of each where they are ``varying``.
        encoding: ``raw``, ``jpeg:QUALITY`` or ``jpeg:QUALITY:444``.
        z_anchor: shape of the anchors' latents. Real images have none.
        z_positive: shape of the positives', by default that of ``z_anchor``. Real anchors with positives have only this.
        latents_stored: whether shards hold the latents; else recipe and index give them back.
        floats: parameters that a view drew. Each positive has its own: ``strength`` becomes ``strength``, ``strength_1``, ….
            ``weight`` is the pair's and stays one.
        instances: adds ``row``, the row of the instance features that a pair was made with (IC-GAN).
        prompts: 0 for none, 1 for ``prompt`` (of anchor and positives), 1 + num_positives where each positive has its own:
            ``prompt``, ``prompt_1``, ….
        sources: adds ``source``, the row of ``sources.jsonl`` that the anchor was read from.

    Raises ManifestError for what the format cannot hold.
    """
    if prompts not in (0, 1, 1 + num_positives):
        raise ManifestError(f"field table: {prompts} prompts a pair, wanted 0, 1 or {1 + num_positives}")
    images = _image_names(num_positives)
    size = layout.MAX_SHAPE if varying else "shape"
    stored: dict[str, Any] = {} if latents_stored else {layout.STORED: False}
    shapes = [z_anchor, *[z_positive if z_positive is not None else z_anchor] * num_positives]
    names = [*([ROW_FIELD] if instances else []), *_prompt_names(prompts), *([SOURCE_FIELD] if sources else [])]
    fields: list[dict[str, Any]] = [
        *({"name": name, "kind": "image", size: [*image_shape, 3], "encoding": encoding} for name in images),
        *(
            {"name": f"z_{name}", "kind": "float32", "shape": list(shape), **stored}
            for name, shape in zip(images, shapes)
            if shape is not None
        ),
        *({"name": name, "kind": "float"} for base in floats for name in _float_names(base, num_positives)),
        *({"name": name, "kind": "int"} for name in (*INT_FIELDS, *names)),
    ]
    check_fields(fields, "field table")
    return fields


def _image_names(num_positives: int) -> list[str]:
    return ["anchor", *(f"positive_{k}" if k else "positive" for k in range(num_positives))]


def _prompt_names(count: int) -> list[str]:
    return [f"{PROMPT_FIELD}_{k}" if k else PROMPT_FIELD for k in range(count)]


def _float_names(base: str, num_positives: int) -> list[str]:
    return [base] if base == WEIGHT_FIELD else [f"{base}_{k}" if k else base for k in range(num_positives)]


def check_manifest(value: Any, where: str) -> None:
    """Refuse anything but a complete, consistent manifest of a schema version that is known, by that version's rules."""
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is {shown(value)}, wanted an object")
    version = value.get("schema_version")
    if type(version) is not int or version not in READ_VERSIONS:
        known = " and ".join(map(str, READ_VERSIONS))
        raise ManifestError(f"{where}: schema_version is {shown(version)}, this program reads {known}")
    tables = {TABLES_KEY} & value.keys() if version > 1 else frozenset()
    want_object(value, where, TOP_KEYS | tables, open_ended=False)
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
    check_fields(value["fields"], where, version)
    if version > 1:
        check_stored(value["fields"], recipe, where)
        _check_tables(value.get(TABLES_KEY), value["fields"], recipe, where)
    _check_shards(value["shards"], recipe, where)


def check_stored(fields: list[dict[str, Any]], recipe: dict[str, Any], where: str) -> None:
    """Latents that are not stored are told by the recipe, which makes them another dataset."""
    told, found = recipe.get(LATENTS_STORED, True), not layout.not_stored(fields)
    if told is not found or recipe.get(LATENTS_STORED) is True:
        raise ManifestError(
            f"{where}: recipe: {LATENTS_STORED} is {shown(told)}, wanted {'no such key' if found else 'false'}: "
            f"the fields have {'all latents' if found else 'latents that are not'} stored"
        )


def wanted_tables(fields: list[dict[str, Any]]) -> list[str]:
    """Names of the files of rows that a dataset of these fields has beside its shards, in order."""
    names = {field["name"] for field in fields}
    return [name for name, (field, _) in TABLES.items() if field in names]


def check_table_facts(value: Any, name: str, recipe: dict[str, Any], where: str) -> None:
    """Refuse anything but the description of the table ``name`` that the recipe means."""
    want_object(value, where, TABLE_KEYS, open_ended=False)
    if value["name"] != name:
        raise ManifestError(f"{where}: name is {shown(value['name'])}, wanted {name}")
    want_sha256(value["sha256"], f"{where}: sha256")
    want_integer(value["bytes"], f"{where}: bytes", 1, MAX_TABLE_BYTES)
    want_integer(value["count"], f"{where}: count", 1, MAX_TABLE_ROWS)
    key = TABLES[name][1]
    told = recipe.get(key)
    for fact in ("sha256", "count"):
        meant = told.get(fact) if isinstance(told, dict) else None
        if type(meant) is not type(value[fact]) or meant != value[fact]:
            raise ManifestError(
                f"{where}: {fact} of {name} is {value[fact]}, the recipe's {key}.{fact} is {shown(meant, 80)}"
            )


def _check_tables(value: Any, fields: list[dict[str, Any]], recipe: dict[str, Any], where: str) -> None:
    """A description of each table that the fields name a row of, and of no other."""
    names = wanted_tables(fields)
    tables = want_list([] if value is None else value, f"{where}: {TABLES_KEY}")
    if len(tables) != len(names) or (value is not None and not names):
        raise ManifestError(f"{where}: {len(tables)} {TABLES_KEY}, wanted {', '.join(names) or 'no such key'}")
    for k, (table, name) in enumerate(zip(tables, names, strict=True)):
        check_table_facts(table, name, recipe, f"{where}: {TABLES_KEY}[{k}]")


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


def check_fields(value: Any, where: str, version: int = SCHEMA_VERSION) -> None:
    """Refuse a field table that is not images, their latents, floats, label, index and rows of tables, in this order."""
    fields = want_list(value, f"{where}: fields")
    if len(fields) > MAX_FIELDS:
        raise ManifestError(f"{where}: {len(fields)} fields, wanted at most {MAX_FIELDS}")
    for i, field in enumerate(fields):
        _check_field(field, f"{where}: fields[{i}]", version)
    kinds = [field["kind"] for field in fields]
    names = [field["name"] for field in fields]
    num_images, num_latents, num_floats = (kinds.count(kind) for kind in ("image", "float32", "float"))
    images = _image_names(max(num_images - 1, 0))
    if num_latents == 0 and num_images > 1:
        raise ManifestError(f"{where}: fields: {num_images} images without latents, wanted the anchor only")
    latents = [f"z_{name}" for name in images] if num_latents else []
    if version > 1 and num_latents and num_latents == num_images - 1 and "z_anchor" not in names:
        latents = latents[1:]  # the anchor is a real image
    floats = names[num_images + num_latents :][:num_floats]
    integers = [*INT_FIELDS, *_rows_among(names, num_images - 1, version)]
    wanted = [*images, *latents, *floats, *integers]
    if names != wanted:
        raise ManifestError(f"{where}: fields are {shown(names, 200)}, wanted {shown(wanted, 200)}")
    wanted_kinds = ["image"] * num_images + ["float32"] * num_latents + ["float"] * num_floats + ["int"] * len(integers)
    if kinds != wanted_kinds:
        raise ManifestError(f"{where}: fields are of kinds {shown(kinds, 200)}, wanted {shown(wanted_kinds, 200)}")
    _check_float_names(floats, where)
    for field in fields[1:num_images]:
        if {**field, "name": ""} != {**fields[0], "name": ""}:
            raise ManifestError(f"{where}: fields: {field['name']} differs from anchor in shape or encoding")


def _rows_among(names: list[str], num_positives: int, version: int) -> list[str]:
    """The fields after ``index`` that are rows of something, as far as the table has them."""
    if version == 1:
        return [ROW_FIELD] if names[-1:] == [ROW_FIELD] else []
    prompts = num_positives + 1 if f"{PROMPT_FIELD}_1" in names else int(PROMPT_FIELD in names)
    rows = [ROW_FIELD] if ROW_FIELD in names else []
    return [*rows, *_prompt_names(prompts), *([SOURCE_FIELD] if SOURCE_FIELD in names else [])]


def _check_float_names(names: list[str], where: str) -> None:
    for name in names:
        if TAKEN_NAME.fullmatch(name) or not FLOAT_NAME.fullmatch(name):
            raise ManifestError(
                f"{where}: fields: a float named {shown(name)}, wanted a name of its own such as strength or strength_1"
            )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ManifestError(f"{where}: fields: {twice} appears twice")


def _check_field(field: Any, where: str, version: int) -> None:
    kind = field.get("kind") if isinstance(field, dict) else None
    kinds = [name for name in sorted(FIELD_KEYS) if version > 1 or name != "float"]
    if not isinstance(kind, str) or kind not in kinds:
        raise ManifestError(f"{where} is {shown(field)}, wanted an object whose kind is one of {kinds}")
    key = layout.MAX_SHAPE if kind == "image" and layout.varies(field) else "shape"
    keys = FIELD_KEYS[kind] if key == "shape" else VARYING_IMAGE_KEYS
    if version > 1 and kind == "float32" and layout.STORED in field:
        keys |= {layout.STORED}
    want_object(field, where, keys, open_ended=False)
    if field.get(layout.STORED, False) is not False:
        raise ManifestError(f"{where}: stored is {shown(field[layout.STORED])}, wanted false or no such key")
    name = want_text(field["name"], f"{where}: name")
    if not name.isascii() or len(name) > MAX_NAME_BYTES:
        raise ManifestError(f"{where}: name is {shown(name)}, wanted at most {MAX_NAME_BYTES} ASCII characters")
    if kind == "image":
        _check_image(field, key, where)
    elif kind == "float32":
        shape = want_list(field["shape"], f"{where}: shape")
        for size in shape:
            want_integer(size, f"{where}: shape", 1, MAX_LATENT_VALUES)
        if not 1 <= len(shape) <= 32 or math.prod(shape) > MAX_LATENT_VALUES:
            raise ManifestError(
                f"{where}: shape is {shown(shape)}, wanted 1 to 32 sizes of a product <= {MAX_LATENT_VALUES}"
            )


def _check_image(field: dict[str, Any], key: str, where: str) -> None:
    shape = want_list(field[key], f"{where}: {key}")
    if len(shape) != 3 or type(shape[2]) is not int or shape[2] != 3:
        raise ManifestError(f"{where}: {key} is {shown(shape)}, wanted [height, width, 3]")
    for side in shape[:2]:
        want_integer(side, f"{where}: {key}", 1 if key == "shape" else MIN_VARYING_SIDE, MAX_SIDE)
    if not isinstance(field["encoding"], str) or not ENCODING.fullmatch(field["encoding"]):
        raise ManifestError(
            f"{where}: encoding is {shown(field['encoding'])}, wanted raw or jpeg:1 to jpeg:100, or these with :444"
        )
