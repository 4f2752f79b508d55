"""The text of README.md: a YAML header for the Hugging Face Hub, then what to know before using the dataset."""

from __future__ import annotations

import re
from typing import Any

from ..layout import STORED, shape_in_words
from ..manifest import Manifest
from ..tables import PROMPTS_NAME, SOURCES_NAME
from .facts import (
    bibtex,
    code,
    has_real_anchors,
    header_lines,
    is_real,
    licence_address,
    line,
    look,
    quoted,
    references,
    risks,
    text_at,
)

MAX_CLASSES = 100  # names shown
SIZES = {  # Hugging Face's size categories, by the first number above each
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
    10**9: "100M<n<1B",
    10**10: "1B<n<10B",
}


def subject(manifest: Manifest) -> str:
    """A few words for the dataset, of letters, digits and plain punctuation."""
    if is_real(manifest):
        name, split = (text_at(manifest.recipe, "source", key) for key in ("name", "split"))
        words = f"{name or 'real images'} {split or ''}, real images"
    else:
        views = text_at(manifest.recipe, "views", "name")
        words = (
            text_at(manifest.build, "weights", "name") or text_at(manifest.recipe, "generator", "name") or "a generator"
        )
        words += f", {views} views" if views and manifest.num_positives else ", anchors only"
        words += " of real anchors" if has_real_anchors(manifest) else ""
    return " ".join(re.sub(r"[^A-Za-z0-9 ,.:/+()=-]", "_", line(words)).split())


def readme_text(manifest: Manifest) -> str:
    """The whole card except its last line. It depends on the manifest alone."""
    parts = (
        *_header(manifest),
        "",
        *_summary(manifest),
        *_contents(manifest),
        *_use(manifest),
        *_making(manifest),
        *_licence(manifest),
        *_risks(manifest),
        *_citation(manifest),
    )
    return "\n".join(parts) + "\n"


def _header(manifest: Manifest) -> list[str]:
    tasks, tags = ["image-feature-extraction"], ["ffcv", "genrep", "contrastive-learning", "self-supervised-learning"]
    family = text_at(manifest.recipe, "generator", "family")
    tags += [] if is_real(manifest) else ["synthetic", "generated-images", *([family] if family else [])]
    tasks += ["image-classification"] if manifest.classes else []
    size = next((name for bound, name in SIZES.items() if manifest.num_pairs < bound), "10B<n<100B")
    return [
        "---",
        *header_lines(text_at(manifest.build, "licence")),
        f"pretty_name: {quoted('GenRep: ' + subject(manifest))}",
        "size_categories:",
        f"- {size}",
        "task_categories:",
        *(f"- {task}" for task in tasks),
        "tags:",
        *(f"- {quoted(tag)}" for tag in tags),
        *([] if is_real(manifest) else ["annotations_creators:", "- machine-generated"]),
        "viewer: false",
        "---",
    ]


def _summary(manifest: Manifest) -> list[str]:
    size = shape_in_words(manifest.image_fields[0]).removesuffix(" x 3")
    positives = manifest.num_positives
    kind = "Real images" if is_real(manifest) else "Generated images, not photographs"
    kind = "Real images, and what a generator made of them" if has_real_anchors(manifest) else kind
    each = f"anchors, each with {positives} positive{'s' if positives > 1 else ''}" if positives else "images"
    return [
        f"# {code(subject(manifest))}",
        "",
        f"{kind}: {manifest.num_pairs:,} {each}, {size} pixels, in {len(manifest.shards)} FFCV shards with "
        f"{manifest.num_bytes:,} bytes in total.",
        "",
        "![The first samples](contact-sheet.png)",
        "",
    ]


def _contents(manifest: Manifest) -> list[str]:
    rows = []
    for field in manifest.fields:
        rows.append(
            (
                code(field["name"]),
                field["kind"],
                shape_in_words(field),
                field.get("encoding", "") if field.get(STORED, True) else "not stored; recipe and index give it back",
                _meaning(field["name"], manifest),
            )
        )
    lines = ["## Contents", "", *_table(("field", "kind", "shape", "stored as", "meaning"), rows), ""]
    if manifest.tables:
        files = [
            (code(table["name"]), f"{table['count']:,}", f"{table['bytes']:,}", code(table["sha256"]))
            for table in manifest.tables
        ]
        lines += [*_table(("file of rows", "rows", "bytes", "sha256"), files), ""]
    if manifest.classes:
        shown = ", ".join(code(name) for name in manifest.classes[:MAX_CLASSES])
        more = len(manifest.classes) - MAX_CLASSES
        lines += [f"{len(manifest.classes)} classes: {shown}{f' and {more} more' if more > 0 else ''}.", ""]
    return lines


def _meaning(name: str, manifest: Manifest) -> str:
    real = has_real_anchors(manifest)
    if name.startswith("z_"):
        return "the noise that the generator made it with" if real else "the latent that the generator made it from"
    words = {
        "anchor": "the real image" if real else "the image",
        "label": "position in the list of classes, or -1 for none",
        "index": "the sample's number",
        "row": "the row of the instance features that it was made with",
        "source": "the row of sources.jsonl, which names the real image's file",
        "weight": "how much the pair counts",
    }
    if name.partition("_")[0] == "prompt":
        return f"the row of prompts.jsonl whose text made {_whose(name, manifest)}"
    if any(field["name"] == name for field in manifest.float_fields):
        return words.get(name, "what the view drew for this positive")
    return words.get(name, "made from the anchor" if real else "another view of the anchor")


def _whose(name: str, manifest: Manifest) -> str:
    """What a prompt of this field made."""
    names = [field["name"] for field in manifest.image_fields]
    number = int(name.partition("_")[2] or 0)
    if number:
        return f"`{names[number]}`"
    own = any(field["name"] == f"{name}_1" for field in manifest.fields)
    made = [] if has_real_anchors(manifest) else ["the anchor"]
    made += ["its positives"] if len(names) > 1 and not own else []
    return " and ".join(made) or "it"


def _use(manifest: Manifest) -> list[str]:
    return [
        "## How to use it",
        "",
        "```sh",
        "genrep-manifest verify DIR                           # checks every byte against the manifest",
        "genrep-manifest export DIR --format folder --out OUT # or webdataset or parquet; needs no FFCV",
        "genrep-train --data DIR --out RUN",
        "```",
        "",
        "```python",
        "from genrep import datasets_manifest",
        "",
        f'datasets_manifest.open("DIR")[0]  # {{"anchor": uint8 array, ..., "index": 0}}; {manifest.num_pairs} of them',
        *(f'datasets_manifest.open("DIR").{name}[0]  # {what}' for name, what in _texts(manifest)),
        "```",
        "",
        f"The id {code(manifest.id)} identifies the recipe, the digest {code(manifest.digest)} the content. `manifest.json` "
        f"holds the sha256 of every shard{' and of every file of rows' if manifest.tables else ''}, and `croissant.json` "
        "repeats them. The digest covers neither this page nor "
        "`croissant.json`.",
        "",
    ]


def _texts(manifest: Manifest) -> list[tuple[str, str]]:
    """Names of the tables in Python, and what a row is."""
    told = {PROMPTS_NAME: ("prompts", "the text of row 0"), SOURCES_NAME: ("sources", "the name of the file of row 0")}
    return [told[table["name"]] for table in manifest.tables]


def _making(manifest: Manifest) -> list[str]:
    recipe, build = manifest.recipe, manifest.build
    wanted: list[tuple[str, Any]] = [
        ("source", look(recipe, "source")),
        ("generator", text_at(build, "weights", "name") or text_at(recipe, "generator", "name")),
        ("trained on", text_at(build, "weights", "data")),
        ("family", text_at(recipe, "generator", "family")),
        ("generator's options", look(recipe, "generator", "options")),
        ("weights", text_at(build, "weights", "file")),
        ("weights from", text_at(build, "weights", "source")),
        ("weights' licence", text_at(build, "weights", "licence")),
        ("weights' sha256", text_at(build, "weights", "sha256")),
        ("digest of their tensors", text_at(recipe, "generator", "weights")),
        ("prompts", _rows(manifest, PROMPTS_NAME)),
        ("real anchors", look(recipe, "anchors", "name")),
        ("their split", look(recipe, "anchors", "split")),
        ("their number", _rows(manifest, SOURCES_NAME)),
        ("their licence", text_at(build, "anchors_licence")),
        ("instance features", look(recipe, "generator", "features")),
        ("latent law", look(recipe, "latent")),
        ("views", look(recipe, "views")),
        ("files of learned views", look(build, "views") or None),
        ("filter", look(recipe, "filter")),
        ("weights of pairs", look(recipe, "weigh")),
        ("image", look(recipe, "image")),
        ("seed", recipe["seed"]),
        ("device", look(build, "device")),
        ("versions", look(build, "packages")),
    ]
    rows = [(name, code(value)) for name, value in wanted if value is not None]
    real = " --anchors IMAGES" if has_real_anchors(manifest) else ""
    again = [] if is_real(manifest) else [f"`genrep-manifest rebuild manifest.json --out DIR{real}` rebuilds it.", ""]
    return ["## How it was made", "", *_table(("what", "value"), rows), "", *again]


def _rows(manifest: Manifest, name: str) -> str | None:
    """How many rows a table has, where there is one."""
    table = manifest.table(name)
    return None if table is None else f"{table['count']:,}"


def _licence(manifest: Manifest) -> list[str]:
    licence, lines = text_at(manifest.build, "licence"), ["## Licence", ""]
    if has_real_anchors(manifest):
        anchors = text_at(manifest.build, "anchors_licence")
        told = f"{code(anchors)} is the licence stated of them" if anchors else "no licence of theirs is stated"
        lines += [f"The anchors are real images: {told}.", ""]
    if licence is None:
        return [*lines, "No licence is stated.", ""]
    address = licence_address(licence)
    link = f" ([text]({address}))" if address else ""
    whose = "the source's" if is_real(manifest) else "that of the generator's weights"
    return [*lines, f"{code(licence)}{link}, {whose} as stated by the builder of the dataset.", ""]


def _risks(manifest: Manifest) -> list[str]:
    found = risks(manifest)
    sections = (
        ("Training data", [found.training_data] if found.training_data else []),
        ("Biases", found.biases),
        ("People, and copies of training images", found.personal if not is_real(manifest) else []),
        ("Limits", found.limits),
        ("Uses", [*found.uses, found.impact]),
    )
    lines = ["## Biases, risks and limits", ""]
    for title, sentences in sections:
        if sentences:
            lines += [f"### {title}", "", *(f"- {sentence}" for sentence in sentences), ""]
    return lines


def _citation(manifest: Manifest) -> list[str]:
    papers = [f"- {reference}" for reference in references(manifest)]
    return [
        "## How to cite",
        "",
        "```bibtex",
        bibtex(manifest, subject(manifest)),
        "```",
        "",
        "It builds on:",
        "",
        *papers,
        "",
    ]


def _table(titles: tuple[str, ...], rows: list[Any]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (titles, ("---",) * len(titles), *rows)]
