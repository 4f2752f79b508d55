"""Licences: from the words of a recipe to the names that Hugging Face and SPDX have for them."""

from __future__ import annotations

import re

from .text import quoted

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
