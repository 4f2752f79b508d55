"""Facts for cards, from the manifest: the licence, how to cite the dataset, its biases, risks and limits.

The licence has the names of Hugging Face and SPDX. A stranger's values inside Markdown and YAML are always one line, never
markup.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from genrep.untrusted import printable

from ..manifest import Manifest
from ..tables import PROMPTS_NAME, SOURCES_NAME

MAX_TEXT = 300  # characters of a value


def look(value: Any, *keys: str) -> Any:
    """The value under nested keys of the open parts of a manifest; None if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def text_at(value: Any, *keys: str) -> str | None:
    """``look`` for a text that is not empty."""
    found = look(value, *keys)
    return found if isinstance(found, str) and found.strip() else None


def line(value: Any) -> str:
    """A value as one printable line: texts as they are, the rest as JSON, at most MAX_TEXT characters."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = printable(text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def code(value: Any) -> str:
    """A value as Markdown's inline code, where nothing is markup; a table's bar and the backtick are escaped as in Python."""
    text = line(value).replace("`", r"\x60").replace("|", r"\x7c")
    return f"`{text}`" if text.strip() else "(empty)"


def quoted(value: Any) -> str:
    """A value as a double-quoted YAML scalar (JSON's strings are such)."""
    return json.dumps(line(value), ensure_ascii=False)


SPDX = {  # Hugging Face's name: SPDX's
    "apache-2.0": "Apache-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-3.0": "CC-BY-3.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-nd-4.0": "CC-BY-NC-ND-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
    "cc-by-nd-4.0": "CC-BY-ND-4.0",
    "cc-by-sa-3.0": "CC-BY-SA-3.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc0-1.0": "CC0-1.0",
    "isc": "ISC",
    "mit": "MIT",
}
LINKS = {
    "NVIDIA Source Code License-NC": "https://nvlabs.github.io/stylegan2/license.html"
}  # of other licences, by how their names begin
MAX_NAME = 60


def header_lines(licence: str | None) -> list[str]:
    """The licence in a dataset card's YAML header."""
    if licence is None or licence.strip().lower() == "unknown":
        return ["license: unknown"]
    if known := _known(licence):
        return [f"license: {known}"]
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")[:MAX_NAME].strip("-.") or "other"
    lines = ["license: other", f"license_name: {quoted(name)}"]
    lines += [f"license_link: {link}" for start, link in LINKS.items() if licence.startswith(start)]
    return [*lines, f"license_details: {quoted(licence)}"]


def licence_address(licence: str) -> str | None:
    """The address of the text of a well-known licence."""
    known = _known(licence)
    if known is not None:
        return f"https://spdx.org/licenses/{SPDX[known]}.html"
    return next((link for start, link in LINKS.items() if licence.startswith(start)), None)


def _known(licence: str) -> str | None:
    name = re.sub(r"\s+", "-", licence.strip().lower())
    return name if name in SPDX else None


FAMILIES = {
    "stylegan2": "T. Karras, S. Laine, M. Aittala, J. Hellsten, J. Lehtinen, T. Aila: Analyzing and Improving the Image "
    "Quality of StyleGAN. CVPR 2020.",
    "biggan": "A. Brock, J. Donahue, K. Simonyan: Large Scale GAN Training for High Fidelity Natural Image Synthesis. "
    "ICLR 2019.",
    "bigbigan": "J. Donahue, K. Simonyan: Large Scale Adversarial Representation Learning. NeurIPS 2019.",
    "icgan": "A. Casanova, M. Careil, J. Verbeek, M. Drozdzal, A. Romero-Soriano: Instance-Conditioned GAN. NeurIPS 2021.",
    "residual_flow": "R. T. Q. Chen, J. Behrmann, D. Duvenaud, J.-H. Jacobsen: Residual Flows for Invertible Generative "
    "Modeling. NeurIPS 2019.",
}
FAMILIES["biggan_deep"] = FAMILIES["biggan"]
FAMILIES |= dict.fromkeys(
    ("dead_leaves", "fractal_noise", "stylegan2_random"),
    "M. Baradad, J. Wulff, T. Wang, P. Isola, A. Torralba: Learning to See by Looking at Noise. NeurIPS 2021.",
)
FAMILIES["diffusers"] = (
    "P. von Platen, S. Patil, A. Lozhkov, P. Cuenca, N. Lambert, K. Rasul, M. Davaadorj, T. Wolf: Diffusers: State-of-the-art "
    "diffusion models. 2022."
)
SDEDIT = (
    "C. Meng, Y. He, Y. Song, J. Song, J. Wu, J.-Y. Zhu, S. Ermon: SDEdit: Guided Image Synthesis and Editing with Stochastic "
    "Differential Equations. ICLR 2022. (positives from noised anchors)"
)
GENVIEW = (
    "X. Li, Y. Yang, X. Li, J. Wu, Y. Yu, B. Ghanem, M. Zhang: GenView: Enhancing View Quality with Pretrained Generative "
    "Model for Self-Supervised Learning. ECCV 2024. (positives of real anchors)"
)
STABLEREP = (
    "Y. Tian, L. Fan, P. Isola, H. Chang, D. Krishnan: StableRep: Synthetic Images from Text-to-Image Models Make Strong "
    "Visual Representation Learners. NeurIPS 2023. (positives of one prompt)"
)
GENREP = (
    "A. Jahanian, X. Puig, Y. Tian, P. Isola: Generative Models as a Data Source for Multiview Representation Learning. "
    "ICLR 2022. (pairs from a generator's latent space)"
)
NAVIGATOR = (
    "Y. Li, H. Chang, B. Ma, S. Shan, X. Chen: Optimal Positive Generation via Latent Transformation for Contrastive "
    "Learning. NeurIPS 2022. (learned views)"
)
HIERARCHICAL = (
    "Anonymous: Hierarchical-Latent Generative Models Are Robust View Generators for Contrastive Representation Learning. "
    "Under double-blind review. (views over chunks or layers)"
)
FFCV = (
    "G. Leclerc, A. Ilyas, L. Engstrom, S. M. Park, H. Salman, A. Madry: FFCV: Accelerating Training by Removing Data "
    "Bottlenecks. CVPR 2023. (the format)"
)


def bibtex(manifest: Manifest, title: str) -> str:
    """An entry for the dataset itself; ``title`` holds letters, digits and plain punctuation only."""
    return "\n".join(
        (
            f"@misc{{genrep-{manifest.id[:12]},",
            f"  title = {{{title}}},",
            f"  note = {{Dataset of {manifest.num_pairs:,} samples made with genrep; id {manifest.id}}}",
            "}",
        )
    )


def references(manifest: Manifest) -> list[str]:
    """The papers behind the generator, the views and the format."""
    family = text_at(manifest.recipe, "generator", "family")
    views = text_at(manifest.recipe, "views", "name") or ""
    found = [FAMILIES[family]] if family in FAMILIES else []
    found += [GENREP] if manifest.num_positives else []
    found += [NAVIGATOR] if views.startswith("navigator") else []
    found += [HIERARCHICAL] if views.startswith("hierarchical") else []
    found += [SDEDIT] if views == "sdedit" else [GENVIEW] if views == "unclip" else []
    found += [STABLEREP] if manifest.num_positives and manifest.table(PROMPTS_NAME) is not None else []
    return [*found, FFCV]


FACES = (
    "FFHQ: 70,000 photographs of faces, published on Flickr under licences that allow reuse. The people in them were not "
    "asked, and ages, skin tones, hair and accessories are those of that site's users"
)
IMAGENET = (
    "ImageNet (ILSVRC 2012): 1.28 million photographs from the web for 1,000 classes chosen by hand, for non-commercial "
    "research. Many show people who were not asked; regions and living conditions are represented unevenly"
)
COCO = "COCO: photographs from Flickr of everyday scenes, many of which show people who were not asked"
LSUN = (
    "one category of LSUN: photographs found by web searches and labelled semi-automatically; their owners keep the "
    "rights in them"
)
FASHION = (
    "Fashion-MNIST: 60,000 gray product pictures of one shop's garments, 28x28 pixels; nobody can be recognised in them"
)
TRAINING_DATA = {  # by how the address of the weights begins
    "package:stylegan2_fashion": FASHION,
    "package:flow_fashion": FASHION,
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-ffhq-": FACES,
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-car-": LSUN,
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-cat-": LSUN,
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-church-": LSUN,
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-horse-": LSUN,
    "https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-": IMAGENET,
    "https://github.com/greeneggsandyaml/tmp/releases/download/0.0.1/BigBiGAN": IMAGENET,
    "https://dl.fbaipublicfiles.com/ic_gan/icgan_stylegan2_coco": COCO,
    "https://dl.fbaipublicfiles.com/ic_gan/icgan_biggan_imagenet": IMAGENET,
    "https://dl.fbaipublicfiles.com/ic_gan/cc_icgan_biggan_imagenet": IMAGENET,
}

INHERITED = (
    "A generator shows the world as its training images do: what was photographed, by whom and where, what was left out, "
    "and how it was labelled. Nothing here measures or corrects that, and generators can exaggerate it."
)
NARROWER = "Generated images cover less than the training images: rare things appear seldom, badly drawn or not at all."
COPIES = (
    "A generator may reproduce training images, or parts of them, almost unchanged. Nobody has searched this dataset for "
    "such copies. Copies remain subject to the rights of the photographers and of the people shown."
)
NO_EVIDENCE = (
    "These are not photographs. They must not be presented as pictures of real people, places, things or events. They may "
    "show impossible objects."
)
NO_EVIDENCE_OF_POSITIVES = "The positives" + NO_EVIDENCE.removeprefix("These")
PEOPLE = (
    "If the training images show people, these images may show faces and bodies. They belong to nobody in particular but "
    "may resemble real people. Do not try to recognise anyone in them."
)
PAIRS = (
    "Anchor and positive are meant to show the same thing, because their latents are close. Nobody has checked them: the "
    "farther a view moves a latent, the more often the class or the identity changes with it."
)
REAL = (
    "These are real images, re-encoded. They carry the biases of their source, and the rights of those who made them and of "
    "the people shown. This program knows only the licence stated above."
)
ANCHORS = (
    "The anchors are real images, re-encoded. They carry the biases of their source, and the rights of those who made them and "
    "of the people shown. The names of their files are in sources.jsonl."
)
MADE_FROM_ANCHORS = (
    "The positives were made from the anchors by a generator. They may keep faces, texts or marks of the real image, and may "
    "show what was never there."
)
PROMPTED = "Nobody has checked that the images show what their prompts say. Prompts and groups are the builder's texts."
USES = "Contrastive and other self-supervised learning of visual representations, and research on it."
MISUSES = (
    "Not meant for recognising people, for decisions about people, as a test set in place of real images, or for training "
    "further generators without saying so, since errors and gaps add up."
)
IMPACT = "Representations learned from these images carry their biases into whatever uses them."
MISTAKEN = "Generated images are easily mistaken for photographs outside this folder, so pass them on with this card."


OWN_GAN = (
    "The generator was trained on the images that its author names above. It carries their biases, and they remain subject to "
    "the rights of those who made them and of the people shown."
)


@dataclass(frozen=True, kw_only=True)
class Risks:
    """Sentences by kind, all of them ours: none quotes the manifest."""

    training_data: str  # what the generator was trained on
    biases: list[str]
    personal: list[str]
    limits: list[str]
    uses: list[str]
    impact: str


def is_real(manifest: Manifest) -> bool:
    """Whether these are real images, which no generator drew."""
    return not isinstance(manifest.recipe.get("generator"), dict)


def has_real_anchors(manifest: Manifest) -> bool:
    """Whether anchors are real images, from which a generator made the positives."""
    return manifest.table(SOURCES_NAME) is not None


def training_data(manifest: Manifest) -> str | None:
    """What the generator was trained on, where its weights come from a publisher that is known here."""
    source = text_at(manifest.build, "weights", "source") or ""
    return next((text for start, text in TRAINING_DATA.items() if source.startswith(start)), None)


def risks(manifest: Manifest) -> Risks:
    """Everything that the card warns of."""
    encoded = manifest.image_fields[0]["encoding"]
    limits = (
        [f"The images are stored as JPEG ({encoded}), which causes small errors everywhere."]
        if encoded != "raw"
        else []
    )
    if is_real(manifest):
        return Risks(training_data="", biases=[REAL], personal=[REAL], limits=limits, uses=[USES], impact=IMPACT)
    found = training_data(manifest)
    told = f"The generator was trained on {found}." if found else ""
    if not told and text_at(manifest.build, "weights", "data"):
        told = OWN_GAN
    labels = "Labels are the classes that the generator was asked for; nobody has checked the images."
    prompted, anchored = manifest.table(PROMPTS_NAME) is not None, has_real_anchors(manifest)
    if anchored:
        labels = "Labels are those of the real anchors; nobody has checked that the positives still show them."
    elif prompted:
        labels = "Labels are the groups of the prompts."
    untold = "What the generator was trained on is not recorded here; ask whoever published its weights."
    if manifest.num_positives:
        limits = [MADE_FROM_ANCHORS if anchored else PAIRS, *limits]
    if manifest.classes:
        limits = [labels, *limits]
    limits = [PROMPTED, *limits] if prompted else limits
    real = [ANCHORS] if anchored else []
    return Risks(
        training_data=told or untold,
        biases=[*real, INHERITED, _variety(manifest), *_filter(manifest)],
        personal=[*real, COPIES, PEOPLE],
        limits=[NO_EVIDENCE_OF_POSITIVES if anchored else NO_EVIDENCE, *limits],
        uses=[USES, MISUSES],
        impact=f"{IMPACT} {MISTAKEN}",
    )


def _variety(manifest: Manifest) -> str:
    psi = look(manifest.recipe, "generator", "options", "truncation")
    cut = look(manifest.recipe, "latent", "truncation")
    ways = [f"psi = {psi}"] if _number(psi) and psi < 1 else []
    ways += [f"latents beyond {cut} standard deviations redrawn"] if _number(cut) else []
    return f"{NARROWER} Truncation ({', '.join(ways)}) narrows them further." if ways else NARROWER


def _filter(manifest: Manifest) -> list[str]:
    if not isinstance(manifest.recipe.get("filter"), dict):
        return []
    return [
        "A filter kept only the pairs that look most real to a network; what that network prefers is one more bias."
    ]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
