"""The facts and classes beside the pictures: the same that ``show`` prints and the card tells."""

from __future__ import annotations

import json
from html import escape
from itertools import islice

from genrep.look.pages import section

from ..cards.facts import is_real, licence_address, line, look, text_at
from ..describe import facts
from ..layout import not_stored, varies
from ..manifest import Manifest
from ..tables import PROMPTS_NAME, SOURCES_NAME
from .distances import MAX_PARTS
from .gather import Gathered
from .markup import MAX_NAME, fold, note, noun, rows, size_of, text

MAX_CLASSES = 1000  # that are listed
MAX_FACTS = 500
MAX_LONG = 400  # characters of a view in words


def facts_section(found: Gathered) -> str:
    """What it is, in a few lines, and all that its manifest says, folded."""
    manifest = found.manifest
    told = [(text(name, MAX_NAME), text(value)) for name, value in islice(facts(manifest), MAX_FACTS + 1)]
    more = note(f"The first {MAX_FACTS} are listed.") if len(told) > MAX_FACTS else ""
    shape = f"{size_of(manifest)} pixels{', each its own' if varies(manifest.image_fields[0]) else ''}"
    signed = "there is one, not checked here" if found.signed else "none"
    known = [
        (f"{noun(manifest).capitalize()}s", f"{manifest.num_pairs:,}"),
        ("Size", shape),
        ("Stored as", text(manifest.image_fields[0]["encoding"])),
        ("Bytes", f"{manifest.num_bytes:,} in {len(manifest.shards):,} shard{'s' if len(manifest.shards) > 1 else ''}"),
        ("Licence", _licence(manifest)),
        *_making(manifest),
        ("Recipe's id", f"<code>{manifest.id}</code>"),
        ("Digest", f"<code>{manifest.digest}</code>"),
        ("Signature", signed),
    ]
    return section(
        "facts", "Facts", rows(known), fold("All that its manifest says", rows(told[:MAX_FACTS], "wide") + more)
    )


def _licence(manifest: Manifest) -> str:
    licence = text_at(manifest.build, "licence")
    if licence is None:
        return "none stated"
    address = licence_address(licence)
    link = f' (<a href="{escape(address)}" rel="noopener noreferrer">text</a>)' if address else ""
    return text(licence) + link


def _making(manifest: Manifest) -> list[tuple[str, str]]:
    """Who made it, of what."""
    recipe, build = manifest.recipe, manifest.build
    wanted = [
        ("Generator", text_at(build, "weights", "name") or text_at(recipe, "generator", "name")),
        ("Family", text_at(recipe, "generator", "family")),
        ("Source", text_at(recipe, "source", "name")),
        ("Prompts", _rows(manifest, PROMPTS_NAME)),
        ("Real anchors", _rows(manifest, SOURCES_NAME, text_at(recipe, "anchors", "name"))),
        ("Anchors' licence", text_at(build, "anchors_licence")),
        ("Drawn per pair", ", ".join(field["name"] for field in manifest.float_fields)),
        ("Latents", "not stored: recipe and index give them back" if not_stored(manifest.fields) else None),
        ("Weights from", text_at(build, "weights", "source")),
        ("Trained on", text_at(build, "weights", "data")),
        ("View", _view(look(recipe, "views")) if manifest.num_positives else None),
        ("Filter keeps", look(recipe, "filter", "keep")),
        ("Pairs are weighed", "exp(gamma q), q by their foregrounds" if look(recipe, "weigh") else None),
        ("Seed", recipe["seed"]),
        ("Made on", look(build, "device")),
        ("Made with", look(build, "packages")),
    ]
    return [(name, text(_words(value), MAX_LONG)) for name, value in wanted if value not in (None, "", [], {})]


def _rows(manifest: Manifest, name: str, whose: str | None = None) -> str | None:
    """How many rows a table has, and of what."""
    table = manifest.table(name)
    return None if table is None else f"{table['count']:,}{f' of {whose}' if whose else ''}"


def _words(value: object) -> str:
    """A fact as words: the items of lists and tables side by side."""
    if isinstance(value, list):
        return "; ".join(_words(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(item)}" for name, item in sorted(value.items()))
    return line(value)


def _view(views: object, depth: int = 3) -> str:
    """A view in words: its name and settings, and those of its parts."""
    if not isinstance(views, dict):
        return ""
    told = [text_at(views, "name") or "a view"]
    for key, value in sorted(views.items()):
        if key != "name" and not isinstance(value, (dict, list)):
            told.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    parts = look(views, "parts")
    if isinstance(parts, list) and depth:
        told.append(" ".join(_part(part, depth) for part in parts[:MAX_PARTS] if isinstance(part, dict)))
    return " ".join(told)


def _part(part: dict[str, object], depth: int) -> str:
    """``[layers=1-2: gaussian std=0.2]``."""
    where = ", ".join(f"{key}={value}" for key, value in sorted(part.items()) if not isinstance(value, (dict, list)))
    return f"[{where}: {_view(part.get('view'), depth - 1) or 'as the anchor'}]"


def has_classes(found: Gathered) -> bool:
    """Whether there is anything to list."""
    return bool(found.manifest.classes)


def classes_section(found: Gathered) -> str:
    """Classes and their counts, each a button that shows its own; nothing where there are none."""
    if not has_classes(found):
        return ""
    manifest, what = found.manifest, noun(found.manifest)
    shown = {pair.label for pair in found.pairs}
    most = max(*found.counts, 1)
    counted = [(number, name, found.counts[number]) for number, name in enumerate(manifest.classes[:MAX_CLASSES])]
    if found.counts[-1]:
        counted.append((-1, "no class", found.counts[-1]))
    items = "\n".join(
        f'<li><button type="button" data-label="{number}" aria-pressed="false"'
        f"{'' if number in shown else ' disabled'}>{text(name, MAX_NAME)}<span>{count:,}</span>"
        f'<svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect class="bar" height="4" '
        f'width="{100 * count / most:.1f}"/></svg></button></li>'
        for number, name, count in counted
    )
    of = f"all {manifest.num_pairs:,} {what}s"
    if found.counted < manifest.num_pairs:
        of = f"the {found.counted:,} {what}s of {found.shards:,} of {len(manifest.shards):,} shards"
    left = len(manifest.classes) - MAX_CLASSES
    told = note(
        f"Counts over {of}. Choose a class to see only its {what}s.",
        f"{left:,} more classes, of {sum(found.counts[MAX_CLASSES:-1]):,} {what}s, are not listed." if left > 0 else "",
        "" if is_real(manifest) else "Labels are what the generator was asked for.",
    )
    return section("classes", "Classes", told, f'<ul class="classes" aria-label="Classes">\n{items}\n</ul>')
