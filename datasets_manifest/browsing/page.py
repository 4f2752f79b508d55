"""The page itself: HTML that holds its style, its script and its pictures, and lets nothing else in.

Whatever comes from the dataset is cut and escaped, or stands in a block of JSON that the script puts on the page as text. The
policy names the one style and the one script by their digests, so that markup which slipped through would still do nothing.
"""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any

from genrep import __version__
from genrep.files import size_text
from genrep.look.pages import head, jumps, page_style
from genrep.untrusted import label

from ..cards.facts import has_real_anchors, is_real, text_at
from ..cards.readme import subject
from .differences import difference
from .distances import rounded
from .facts import classes_section, facts_section, has_classes
from .gather import Gathered, Pair
from .markup import MAX_NAME, MAX_VALUE, noun, size_of, text
from .pictures import Sheets
from .sections import card_section, distances_section, has_distances, load_section, pairs_section


def page(found: Gathered, sheets: Sheets) -> bytes:
    """The whole page."""
    style, script = page_style(_resource("page.css")), _resource("page.js")
    title = escape(label(subject(found.manifest), MAX_VALUE))
    parts = [
        head(f"{title} - genrep dataset", style, script),
        '<body>\n<a class="skip" href="#pairs">Skip to the pictures</a>\n<div class="page">',
        _header(found, title),
        '<main>\n<div class="layout">',
        pairs_section(found, sheets),
        '<div class="beside">',
        facts_section(found),
        classes_section(found),
        "</div>\n</div>",
        distances_section(found),
        load_section(found),
        card_section(found),
        "</main>",
        _footer(found),
        "</div>",
        _dialog(found),
        f'<script type="application/json" id="data">{_json(_data(found, sheets))}</script>',
        f"<script>{script}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part).encode()


def _resource(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that ends no element and begins none."""
    written = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header(found: Gathered, title: str) -> str:
    """What it is in one look, and the way to each section."""
    manifest, what = found.manifest, noun(found.manifest)
    licence, shards, classes = text_at(manifest.build, "licence"), len(manifest.shards), len(manifest.classes)
    numbers = [(f"{manifest.num_pairs:,}", f"{what}s")]
    if manifest.num_positives:
        numbers.append(
            (f"1 + {manifest.num_positives}", f"anchor and positive{'s' if manifest.num_positives > 1 else ''}")
        )
    numbers += [
        (size_of(manifest), "pixels"),
        (size_text(manifest.num_bytes), f"in {shards:,} shard{'s' if shards > 1 else ''}"),
    ]
    numbers += [(f"{classes:,}", "classes" if classes > 1 else "class")] if classes else []
    numbers.append((text(licence, 40) if licence else "none stated", "licence"))
    ways = [
        ("pairs", f"{what.capitalize()}s"),
        ("facts", "Facts"),
        *([("classes", "Classes")] if has_classes(found) else []),
        *([("distances", "Distances")] if has_distances(found) else []),
        ("load", "How to load it"),
        ("card", "Limits and citation"),
    ]
    items = "\n".join(f"<li><b>{value}</b><span>{name}</span></li>" for value, name in numbers)
    kind = "Real images" if is_real(manifest) else "Generated images"
    kind = "Real anchors, generated positives" if has_real_anchors(manifest) else kind
    return (
        f'<header>\n<p class="kind">{kind} · {text(found.source)}</p>\n<h1>{title}</h1>\n'
        f'<ul class="headline">\n{items}\n</ul>\n{jumps(ways)}\n</header>'
    )


def _footer(found: Gathered) -> str:
    """What was checked, and what was not."""
    shards = f"{found.shards:,} shard{'s' if found.shards > 1 else ''}"
    read = f"The tables of {shards} were checked, their sha256 was not."
    if found.remote:
        read = f"Of {shards} {size_text(found.fetched)} were fetched; their tables were checked, no sha256 vouches for parts."
    return (
        f"<footer><p>Written by genrep {escape(__version__)} from what the manifest says and the shards hold. {read} "
        "<code>genrep-manifest verify</code> checks every byte.</p></footer>"
    )


def _dialog(found: Gathered) -> str:
    """Where the script shows one sample large."""
    compare = (
        '<label class="option"><input type="checkbox" id="difference" autocomplete="off">'
        "Difference from the anchor, twice as bright</label>"
        if found.images > 1
        else ""
    )
    return (
        '<dialog id="dialog" aria-labelledby="dialog-title">\n<div class="dialog-head">'
        '<h2 id="dialog-title" aria-live="polite"></h2><span class="quiet" id="of"></span>'
        '<button type="button" id="before">Previous</button><button type="button" id="after">Next</button>'
        f'<button type="button" id="close" autofocus>Close</button></div>\n<div class="large" id="large"></div>\n{compare}\n'
        '<dl id="dialog-facts"></dl>\n</dialog>'
    )


def _data(found: Gathered, sheets: Sheets) -> dict[str, Any]:
    """What the script reads."""
    manifest = found.manifest
    sizes = {size for group in sheets.sizes for size in group}
    labels = [pair.label for pair in found.pairs]
    distances = [pair.distances for pair in found.pairs]
    return {
        "noun": noun(manifest),
        "perShard": manifest.recipe["pairs_per_shard"],
        "images": found.images,
        "names": ["real anchor" if has_real_anchors(manifest) else "anchor", *_positives(found)],
        "cell": sheets.cell,
        "columns": sheets.columns,
        "rows": sheets.rows,
        "exact": sheets.exact,
        "size": next(iter(sizes)) if len(sizes) == 1 else None,
        "sizes": sheets.sizes if len(sizes) > 1 else None,
        "index": [pair.index for pair in found.pairs],
        "label": labels,
        "classes": {number: label(manifest.classes[number], MAX_NAME) for number in sorted({*labels} - {-1})},
        "told": [pair.told for pair in found.pairs] if any(pair.told for pair in found.pairs) else None,
        "distances": distances if any(distances) else None,
        "differences": [_differences(pair) for pair in found.pairs] if manifest.num_positives else None,
    }


def _positives(found: Gathered) -> list[str]:
    """Names of the positives that are shown."""
    return [field["name"] for field in found.manifest.image_fields[1 : found.images]]


def _differences(pair: Pair) -> list[float | None]:
    """How much each positive differs from the anchor as a picture."""
    apart = [difference(pair.images[0], image) for image in pair.images[1:]]
    return [None if one is None else rounded(one) for one in apart]
