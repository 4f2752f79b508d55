"""How a dataset is cited: itself by its id, and the work that it stands on."""

from __future__ import annotations

from ..manifest import Manifest
from .text import text_at

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
