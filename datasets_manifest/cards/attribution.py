"""Whose a dataset is: the licence in the names of Hugging Face and SPDX, and how to cite it and the work that it stands on."""

from __future__ import annotations

import re

from ..manifest import Manifest
from .text import quoted, text_at

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
}  # of others, by how they begin
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
    """Where the text of a well-known licence is."""
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
    return [*found, FFCV]
