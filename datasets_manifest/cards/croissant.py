"""croissant.json: the dataset described in Croissant 1.0 and its RAI extension (JSON-LD of MLCommons).

https://docs.mlcommons.org/croissant/docs/croissant-spec.html, https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html
"""

from __future__ import annotations

import hashlib
from typing import Any

from ..layout import IN_RECORDS, STORED, largest_shape, varies
from ..manifest import MANIFEST_NAME, Manifest
from ..tables import PROMPTS_NAME, SOURCES_NAME
from .facts import bibtex, has_real_anchors, is_real, licence_address, line, references, risks, text_at
from .readme import subject

VOCABULARY = "http://mlcommons.org/croissant/"
# fmt: off
NAMES = (  # properties of Croissant in the standard context
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)
# fmt: on
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": VOCABULARY,
    "rai": f"{VOCABULARY}RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: f"cr:{name}" for name in NAMES},
}
SHARD_COLUMNS = {"name": "sc:Text", "first_index": "sc:Integer", "count": "sc:Integer", "bytes": "sc:Integer"}
SHARD_COLUMNS |= {"sha256": "sc:Text", "latents_sha256": "sc:Text"}
TABLE_WORDS = {
    PROMPTS_NAME: "The prompts, one a line; the fields prompt, prompt_1, ... are rows of it, counted from 0",
    SOURCES_NAME: "The files of the real anchors, one a line; the field source is a row of it, counted from 0",
}
TABLE_COLUMNS = {PROMPTS_NAME: ("group", "prompt"), SOURCES_NAME: ("name", "sha256")}


def croissant(manifest: Manifest, manifest_bytes: bytes) -> dict[str, Any]:
    """The JSON-LD object. ``manifest_bytes``: the manifest's file, whose sha256 it states."""
    found = risks(manifest)
    licence = text_at(manifest.build, "licence")
    kind = "Real images" if is_real(manifest) else "Generated images"
    kind = "Real images, and images made from them" if has_real_anchors(manifest) else kind
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [f"{VOCABULARY}1.0", f"{VOCABULARY}RAI/1.0"],
        "name": f"genrep-{manifest.id[:12]}",
        "alternateName": subject(manifest),
        "identifier": manifest.id,
        "version": "1.0.0",  # another content is another dataset, with another id
        "description": f"{kind}: {subject(manifest)}; {manifest.num_pairs:,} samples in FFCV shards. {_making(manifest)}",
        "license": (licence_address(licence) or line(licence)) if licence else "unknown",
        "citeAs": bibtex(manifest, subject(manifest)),
        "citation": references(manifest),
        "isLiveDataset": False,
        "distribution": _files(manifest, manifest_bytes),
        "recordSet": _record_sets(manifest),
        "rai:dataCollection": found.training_data or "Real images, re-encoded.",
        "rai:dataBiases": found.biases,
        "rai:dataLimitations": found.limits,
        "rai:personalSensitiveInformation": found.personal,
        "rai:dataUseCases": found.uses,
        "rai:dataSocialImpact": found.impact,
    }


def _making(manifest: Manifest) -> str:
    facts = {
        "generator": manifest.recipe.get("generator"),
        "weights": manifest.build.get("weights"),
        "latent": manifest.recipe.get("latent"),
        "views": manifest.recipe.get("views"),
        "filter": manifest.recipe.get("filter"),
        "weights of pairs": manifest.recipe.get("weigh"),
        "source": manifest.recipe.get("source"),
        "prompts": manifest.recipe.get("prompts"),
        "anchors": manifest.recipe.get("anchors"),
        "anchors' licence": manifest.build.get("anchors_licence"),
    }
    told = "; ".join(f"{name} {line(value)}" for name, value in facts.items() if value is not None)
    return f"Made from: {told}."


def _files(manifest: Manifest, manifest_bytes: bytes) -> list[dict[str, Any]]:
    sha256 = hashlib.sha256(manifest_bytes).hexdigest()
    files = [_file(MANIFEST_NAME, len(manifest_bytes), sha256, "application/json", "Recipe, fields, shards, digests")]
    for shard in manifest.shards:
        last = shard.first_index + shard.count - 1
        what = f"FFCV file (format 2) of samples {shard.first_index} to {last}"
        files.append(_file(shard.name, shard.bytes, shard.sha256, "application/octet-stream", what))
    for table in manifest.tables:
        what = TABLE_WORDS[table["name"]]
        files.append(_file(table["name"], table["bytes"], table["sha256"], "application/jsonlines", what))
    return files


def _file(name: str, size: int, sha256: str, encoding: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": encoding,
        "sha256": sha256,
    }


def _record_sets(manifest: Manifest) -> list[dict[str, Any]]:
    """The shards, read from the manifest; the fields of a sample and the classes, as they stand here."""
    sets = [
        {
            "@type": "cr:RecordSet",
            "@id": "shards",
            "name": "shards",
            "description": "The files, in order.",
            "field": [_shard_field(name, kind) for name, kind in SHARD_COLUMNS.items()],
        },
        _inline(
            "fields",
            "What a sample in a shard consists of; shapes are height, width, channels for images"
            f"{', the largest: each image has a size of its own' if varies(manifest.image_fields[0]) else ''}.",
            [{"name": field["name"], "kind": field["kind"], **_shape(field)} for field in manifest.fields],
        ),
    ]
    for table in manifest.tables:
        sets.append(_rows(table["name"]))
    if manifest.classes:
        names = [{"label": number, "name": line(name)} for number, name in enumerate(manifest.classes)]
        sets.append({**_inline("classes", "What the labels mean.", names), "dataType": "sc:Enumeration"})
        sets[-1]["key"] = {"@id": "classes/label"}
    return sets


def _shape(field: dict[str, Any]) -> dict[str, str]:
    shape = "" if field["kind"] in IN_RECORDS else ",".join(map(str, largest_shape(field)))
    return {"shape": shape, "encoding": field.get("encoding", "") if field.get(STORED, True) else "not stored"}


def _shard_field(name: str, kind: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": MANIFEST_NAME}, "extract": {"jsonPath": f"$.shards[*].{name}"}}
    return {"@type": "cr:Field", "@id": f"shards/{name}", "name": name, "dataType": kind, "source": source}


def _rows(name: str) -> dict[str, Any]:
    """The lines of a file of rows."""
    stem = name.removesuffix(".jsonl")
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{stem}/{column}",
            "name": column,
            "dataType": "sc:Text",
            "source": {"fileObject": {"@id": name}, "extract": {"column": column}},
        }
        for column in TABLE_COLUMNS[name]
    ]
    return {"@type": "cr:RecordSet", "@id": stem, "name": stem, "description": TABLE_WORDS[name], "field": fields}


def _inline(name: str, description: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A set of records inside the file itself."""
    columns = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{key}",
            "name": key,
            "dataType": "sc:Integer" if isinstance(value, int) else "sc:Text",
        }
        for key, value in rows[0].items()
    ]
    data = [{f"{name}/{key}": value for key, value in row.items()} for row in rows]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "field": columns,
        "data": data,
    }
