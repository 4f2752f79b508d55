"""Biases, risks and limits of a dataset, as far as its manifest tells: for the card and for Croissant's RAI properties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..manifest import Manifest
from .text import look, text_at

FACES = (
    "FFHQ: 70,000 photographs of faces that people had put on Flickr under licences that allow reuse. Nobody in them was "
    "asked, and ages, skin tones, hair and accessories are those of that site's users"
)
IMAGENET = (
    "ImageNet (ILSVRC 2012): 1.28 million photographs from the web for 1,000 classes chosen by hand, for non-commercial "
    "research. Many show people who were not asked; regions and living conditions are represented unevenly"
)
COCO = "COCO: photographs from Flickr of everyday scenes, many of which show people who were not asked"
LSUN = (
    "one category of LSUN: photographs that were found by web searches and labelled half automatically; rights in them "
    "stay with their owners"
)
FASHION = (
    "Fashion-MNIST: 60,000 gray product pictures of garments of one shop, 28x28 pixels; no people can be told in them"
)
TRAINING_DATA = {  # by how the address of the weights begins
    "package:stylegan2_fashion": FASHION,
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
NARROWER = (
    "Generated images cover less than the training images did: rare things are drawn seldom, badly or not at all."
)
COPIES = (
    "A generator may reproduce training images, or parts of them, nearly as they were. Nobody has searched this dataset "
    "for such copies; where there are any, the rights of those who made the photographs and of those in them hold."
)
NO_EVIDENCE = (
    "These are no photographs. They must not be presented as pictures of real people, places, things or events; objects in "
    "them may be impossible."
)
PEOPLE = (
    "Where the training images show people, these images may show faces and bodies, of nobody in particular but perhaps "
    "like somebody. Do not try to recognise anyone in them."
)
PAIRS = (
    "Anchor and positive are meant to show one thing, because their latents are close. Nobody has looked at them: the "
    "farther a view moves a latent, the more often class or identity change with it."
)
REAL = (
    "These are real images, re-encoded. Their biases, and the rights of those who made them and of those in them, are those "
    "of the source; this program knows only the licence that stands above."
)
USES = "Contrastive and other self-supervised learning of visual representations, and research on it."
MISUSES = (
    "Not meant for: recognising people; decisions about people; a test set in place of real images; training further "
    "generators without saying so, since errors and gaps add up."
)
IMPACT = "Representations learned from these images carry their biases into whatever uses them."
MISTAKEN = "Generated images are easily taken for photographs once they leave this folder; pass them on with this card."


OWN_GAN = (
    "The generator was trained on the images that are named above by whoever trained it; their biases, and the rights of "
    "those who made them and of those in them, are those of that source."
)


@dataclass(frozen=True, kw_only=True)
class Risks:
    """Sentences by kind; ours alone, no text of the manifest."""

    training_data: str  # what the generator was trained on
    biases: list[str]
    personal: list[str]
    limits: list[str]
    uses: list[str]
    impact: str


def is_real(manifest: Manifest) -> bool:
    """Whether these are real images, which no generator drew."""
    return not isinstance(manifest.recipe.get("generator"), dict)


def training_data(manifest: Manifest) -> str | None:
    """What the generator was trained on, where its weights come from a publisher that is known here."""
    source = text_at(manifest.build, "weights", "source") or ""
    return next((text for start, text in TRAINING_DATA.items() if source.startswith(start)), None)


def risks(manifest: Manifest) -> Risks:
    """Everything that the card warns of."""
    encoded = manifest.image_fields[0]["encoding"]
    limits = [f"The images are stored as JPEG ({encoded}): small errors everywhere."] if encoded != "raw" else []
    if is_real(manifest):
        return Risks(training_data="", biases=[REAL], personal=[REAL], limits=limits, uses=[USES], impact=IMPACT)
    found = training_data(manifest)
    told = f"The generator was trained on {found}." if found else ""
    if not told and text_at(manifest.build, "weights", "data"):
        told = OWN_GAN
    untold = "What the generator was trained on is not recorded here; ask whoever published its weights."
    if manifest.num_positives:
        limits = [PAIRS, *limits]
    if manifest.classes:
        limits = ["Labels are the classes that the generator was asked for; nobody has checked the images.", *limits]
    return Risks(
        training_data=told or untold,
        biases=[INHERITED, _variety(manifest), *_filter(manifest)],
        personal=[COPIES, PEOPLE],
        limits=[NO_EVIDENCE, *limits],
        uses=[USES, MISUSES],
        impact=f"{IMPACT} {MISTAKEN}",
    )


def _variety(manifest: Manifest) -> str:
    psi = look(manifest.recipe, "generator", "options", "truncation")
    cut = look(manifest.recipe, "latent", "truncation")
    ways = [f"psi = {psi}"] if _number(psi) and psi < 1 else []
    ways += [f"latents beyond {cut} standard deviations drawn anew"] if _number(cut) else []
    return f"{NARROWER} Truncation ({', '.join(ways)}) narrows them further." if ways else NARROWER


def _filter(manifest: Manifest) -> list[str]:
    if not isinstance(manifest.recipe.get("filter"), dict):
        return []
    return [
        "A filter kept only the pairs that look most real to a network; what that network prefers is one more bias."
    ]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
