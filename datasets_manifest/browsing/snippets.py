"""How to fetch, check, read and make a dataset again: commands and code that are right as they stand."""

from __future__ import annotations

import shlex

from ..cards.facts import has_real_anchors, is_real
from ..layout import varies
from ..manifest import Manifest
from .gather import Gathered

FOLDER = "shards"
SIZE = "size=(224, 224)"  # to which images of several sizes are brought


def snippets(found: Gathered) -> list[tuple[str, str]]:
    """Title and text of each."""
    manifest = found.manifest
    place = shlex.quote(found.source) if found.remote else "ADDRESS"
    fetch = f"genrep-manifest pull {place} --out {FOLDER} \\\n    --digest {manifest.digest}"
    pairs, size = bool(manifest.num_positives), f", {SIZE}" if varies(manifest.image_fields[0]) else ""
    train = "" if pairs else " --positive anchor"
    made = [
        ("Fetch it" if found.remote else "Fetch it, from where it is published", fetch),
        ("Check it: every byte, image and latent", f"genrep-manifest verify {FOLDER} --level full"),
        ("Read it in Python, with neither FFCV nor torch", _read(manifest)),
        ("Load it as batches of tensors", _batches(size)),
        ("Load it with FFCV's own Loader", _ffcv(size)),
        ("Train an encoder", f"genrep-train --data {FOLDER}{train} --out runs/encoder"),
    ]
    if not is_real(manifest):
        real = " --anchors IMAGES" if has_real_anchors(manifest) else ""
        made.append(("Make it again", f"genrep-manifest rebuild {FOLDER}/manifest.json --out again{real}"))
    return made


def _read(manifest: Manifest) -> str:
    latents, others = manifest.latent_fields[:1], [*manifest.float_fields[:1]]
    rows = [field for field in manifest.fields if field["kind"] == "int"]
    fields = [*manifest.image_fields[:2], *latents, *others, *rows]
    names = [field["name"] for field in fields if field["name"] != "row"]
    texts = {"prompt": ("prompts", "the text"), "source": ("sources", "the name of the anchor's file")}
    more = [f'\ndataset.{table}[pair["{name}"]]    # {what}' for name, (table, what) in texts.items() if name in names]
    return (
        "from genrep import datasets_manifest\n\n"
        f'dataset = datasets_manifest.open("{FOLDER}")\n'
        f"pair = dataset[0]    # {', '.join(names)}\n"
        'pair["anchor"]       # uint8, (height, width, 3)' + "".join(more)
    )


def _batches(size: str) -> str:
    return (
        "from genrep.train import PairLoader\n\n"
        f'for batch in PairLoader("{FOLDER}", batch_size=256{size}):\n'
        '    batch["anchor"]    # uint8, (256, height, width, 3)'
    )


def _ffcv(size: str) -> str:
    return (
        "from pathlib import Path\n"
        "from ffcv.loader import Loader, OrderOption\n"
        "from genrep.train import ffcv_pipelines\n\n"
        f'for shard in sorted(Path("{FOLDER}").glob("*.beton")):\n'
        f'    pipelines = ffcv_pipelines("{FOLDER}"{size})\n'
        "    for batch in Loader(str(shard), 256, order=OrderOption.RANDOM, pipelines=pipelines):\n"
        "        ..."
    )
