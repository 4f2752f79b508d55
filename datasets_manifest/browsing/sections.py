"""The sections of the page's main part: pictures, distances, how to load it, limits and citation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from genrep.look.pages import section
from genrep.untrusted import label

from ..cards.facts import bibtex, references, risks
from ..cards.readme import subject
from ..layout import largest_shape, varies
from .charts import histograms
from .differences import series_of
from .distances import MAX_SERIES, Series, mixed
from .gather import Gathered
from .markup import MAX_NAME, fold, note, noun, points
from .pictures import Sheets
from .snippets import snippets

PER_PAGE, COUNTS = 24, (12, 24, 48, 96)
MAX_PER_PAGE = 1000  # what a browser draws at once without stumbling
SIZES = ("small", "medium", "large")
LATENT_ORDERS = [("near", "Nearest latents first"), ("far", "Farthest latents first")]
PIXEL_ORDERS = [("alike", "Most alike images first"), ("unlike", "Least alike images first")]
MOVES = (("first", "First"), ("previous", "Previous"), ("next", "Next"), ("last", "Last"))


def pairs_section(found: Gathered, sheets: Sheets) -> str:
    """The sampled pairs: tools, a grid and a pager for the script, and the sheets that a browser without one shows."""
    what = noun(found.manifest)
    pictures = "\n".join(
        f'<img src="{address}" alt="Sheet {k + 1} of {len(sheets.files)} of the sampled {what}s">'
        for k, address in enumerate(sheets.files)
    )
    moves = "".join(f'<button type="button" id="{name}">{words}</button>' for name, words in MOVES)
    return section(
        "pairs",
        f"{what.capitalize()}s",
        note(_sampling(found), _fidelity(found, sheets)),
        f'<div class="bar-of-tools scripted">{_tools(found)}</div>',
        f'<ul class="grid scripted" id="grid" aria-label="Sampled {what}s. Arrow keys move, Enter shows one large, '
        'Page Up and Page Down turn the page."></ul>',
        '<nav class="pager scripted" aria-label="Pages"><span class="status" id="status" role="status"></span>'
        f'<span id="page"></span>{moves}</nav>',
        f'<div class="sheets">{pictures}</div>',
    )


def _tools(found: Gathered) -> str:
    names, most = found.manifest.classes, len(found.pairs)
    tools = []
    shown = sorted(Counter(pair.label for pair in found.pairs).items())
    if len(shown) > 1:
        classes = [
            (str(number), f"{escape(label(names[number], MAX_NAME)) if number >= 0 else 'no class'} ({count:,})")
            for number, count in shown
        ]
        tools.append(_select("class", "Class", [("all", f"All ({most:,})"), *classes], "all"))
    if has_distances(found):
        latents = LATENT_ORDERS if any(pair.distances for pair in found.pairs) else []
        tools.append(_select("order", "Order", [("index", "Index"), *latents, *PIXEL_ORDERS], "index"))
    if most > COUNTS[0]:
        counts = [(str(count), str(count)) for count in COUNTS if count < most]
        counts += [(str(most), f"all {most:,}")] if most <= MAX_PER_PAGE else []
        tools.append(_select("per-page", "On a page", counts, str(min(PER_PAGE, most))))
    tools.append(_select("size", "Pictures", [(name, name.capitalize()) for name in SIZES], "medium"))
    return "".join(tools)


def _select(name: str, title: str, choices: list[tuple[str, str]], chosen: str) -> str:
    """A menu; what is in it is markup already."""
    inner = "".join(
        f'<option value="{value}"{" selected" if value == chosen else ""}>{words}</option>' for value, words in choices
    )
    return f'<label>{title}<select id="{name}" autocomplete="off">{inner}</select></label>'


def _sampling(found: Gathered) -> str:
    """Which samples these are, of how many, and from where."""
    manifest, what = found.manifest, noun(found.manifest)
    total, count = manifest.num_pairs, len(found.pairs)
    told = f"{count:,} of {total:,} {what}s, spread evenly over all of them."
    if count == total:
        told = f"All {total:,} {what}s."
    elif found.within < len(manifest.shards):
        told = (
            f"{count:,} of {total:,} {what}s, spread evenly over {found.within:,} of {len(manifest.shards):,} shards."
        )
    if (more := manifest.num_positives + 1 - found.images) > 0:
        told += (
            f" Of {manifest.num_positives} positives of each the first {found.images - 1} are shown, {more} are not."
        )
    return told


def _fidelity(found: Gathered, sheets: Sheets) -> str:
    """How the pictures differ from what is stored."""
    stored = max(largest_shape(found.manifest.image_fields[0])[:2])
    if sheets.exact:
        return "Every pixel is shown as it is stored, enlarged."
    if sheets.side < stored:
        return f"Pictures are reduced from {stored} to {sheets.side} pixels and compressed, to keep this page small."
    return "Pictures are compressed once more, to keep this page small."


def has_distances(found: Gathered) -> bool:
    """Whether there are pairs, whose images at least can be compared."""
    return found.manifest.num_positives > 0


def distances_section(found: Gathered) -> str:
    """Histograms, in latent space and in pixels; nothing where there are no pairs."""
    if not has_distances(found):
        return ""
    one = found.distances
    total = found.manifest.num_pairs
    parts = [
        note(
            "How far positives are from their anchors. The strip below each histogram compares that with anchors of "
            "different pairs, by the median of these."
        )
    ]
    told = note(
        f"Euclidean distances of latents, over {one.measured:,} of {total:,} pairs.",
        "Each positive has a latent of its own for every group of layers." if one.grouped else "",
        f"Each pair was made by one of {count} views. Which one is not stored, so all are together here."
        if (count := mixed(found.manifest))
        else "",
        f"{one.left_out:,} pairs are left out: their latents are not finite numbers." if one.left_out else "",
    )
    if one.measured:
        parts += ["<h3>In latent space</h3>", told, *_charts(one.series)]
        parts += [
            "<h3>In each part of the latent</h3>" if one.series and one.part_series else "",
            *_charts(one.part_series),
        ]
    elif one.names:
        parts.append(
            note("Latents of anchors and positives cannot be compared: they differ in shape, or are no numbers.")
        )
    names = [field["name"] for field in found.manifest.image_fields[1 : found.images]]
    kept = max(found.pairs[0].images[0].shape[:2])
    reduced = f", reduced to {kept} pixels" if kept < max(largest_shape(found.manifest.image_fields[0])[:2]) else ""
    what = f"the {len(found.pairs):,} pairs that are shown{'' if varies(found.manifest.image_fields[0]) else reduced}"
    parts += [
        "<h3>In pixels</h3>",
        note(f"Root mean square differences of pixel values, of 255, over {what}."),
        *_charts(series_of([pair.images for pair in found.pairs], names)),
    ]
    return section("distances", "Distances", *parts)


def _charts(series: Sequence[Series]) -> list[str]:
    if not any(one.values for one in series):
        return []
    drawn = f'<div class="charts">\n{histograms(series[:MAX_SERIES])}\n</div>'
    left = note(f"The first {MAX_SERIES} of {len(series)} are drawn.") if len(series) > MAX_SERIES else ""
    return [drawn, left]


def load_section(found: Gathered) -> str:
    """Commands and code, each with a button that copies it."""
    parts = []
    for k, (title, words) in enumerate(snippets(found)):
        parts.append(
            f'<div class="snippet"><div class="snippet-head"><h3 id="snippet-{k}-title">{title}</h3>'
            f'<button type="button" class="scripted" data-of="snippet-{k}" aria-describedby="snippet-{k}-title">Copy</button>'
            f'</div>\n<pre id="snippet-{k}" tabindex="0" role="group" aria-labelledby="snippet-{k}-title">'
            f"{escape(words)}</pre></div>"
        )
    inner = "\n".join(parts)
    return section("load", "How to load it", f'<div class="snippets">\n{inner}\n</div>')


def card_section(found: Gathered) -> str:
    """What the dataset's card says of limits, and how to cite it."""
    manifest = found.manifest
    told = risks(manifest)
    sentences = [told.training_data, *told.biases, *told.personal, *told.limits, *told.uses, told.impact]
    entry = escape(bibtex(manifest, subject(manifest)))
    return section(
        "card",
        "Limits and citation",
        fold("Biases, risks and limits", points([sentence for sentence in dict.fromkeys(sentences) if sentence])),
        f'<h3>Cite it</h3>\n<pre tabindex="0" role="group" aria-label="BibTeX">{entry}</pre>',
        fold("The papers that it stands on", points(references(manifest))),
    )
