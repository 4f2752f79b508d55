"""Datasets whose content is a formula, their pages taken apart, and a browser to look at them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.datasets_manifest.beton_writer import BetonWriter
from genrep.datasets_manifest.browsing import BrowseConfig, browse
from genrep.datasets_manifest.manifest import Shard, build_manifest, shard_name, write_manifest, write_shard_record
from genrep.datasets_manifest.schema import field_table

CLASSES = ("cat", "dog", "cow")


def colour(i: int, j: int) -> tuple[int, int, int]:
    """Of picture ``j`` of pair ``i``."""
    return 7 * i % 256, (13 * i + 40 * j) % 256, 50 * j


def picture(i: int, j: int, size: tuple[int, int]) -> np.ndarray:
    """One colour, with a white pixel in the last corner."""
    image = np.full((*size, 3), colour(i, j), np.uint8)
    image[-1, -1] = 255
    return image


def latent(i: int, j: int, shape: tuple[int, ...]) -> np.ndarray:
    """The anchor's lies at 10 i on the first axis; positive j of it j away on the last."""
    z = np.zeros(shape, np.float32)
    z[..., 0] = 10 * i
    z[..., -1] = j
    return z


def build(
    folder: Path,
    *,
    pairs: int = 30,
    per_shard: int = 12,
    size: tuple[int, int] = (12, 16),
    encoding: str = "raw",
    positives: int = 1,
    z_anchor: tuple[int, ...] | None = (4,),
    z_positive: tuple[int, ...] | None = None,
    classes: tuple[str, ...] = CLASSES,
    lowest: int = 0,
    varying: bool = False,
    build_facts: dict[str, Any] | None = None,
    **recipe: Any,
) -> Path:
    """A finished dataset. Labels take turns from ``lowest`` on, where there are classes."""
    folder.mkdir()
    fields = field_table(
        size, encoding, varying=varying, num_positives=positives, z_anchor=z_anchor, z_positive=z_positive
    )
    shards = []
    for k, first in enumerate(range(0, pairs, per_shard)):
        indices = range(first, min(first + per_shard, pairs))
        columns: list[Any] = []
        for j in range(positives + 1):
            shapes = [(size[0] - i % 3, size[1] - i % 2) if varying else size for i in indices]
            images = [picture(i, j, shape) for i, shape in zip(indices, shapes)]
            columns.append(images if varying else np.stack(images))
        for j in range(positives + 1) if z_anchor is not None else ():
            shape = z_anchor if j == 0 or z_positive is None else z_positive
            columns.append(np.stack([latent(i, j, shape) for i in indices]))
        labels = [i % (len(classes) - lowest) + lowest if classes else -1 for i in indices]
        columns += [np.array(labels), np.array(indices)]
        with BetonWriter(folder / shard_name(k), fields, len(indices), 1 << 20) as writer:
            writer.append(columns)
            count, sha256 = writer.finish()
        digest = hashlib.sha256()
        shards.append(
            Shard(
                name=shard_name(k),
                first_index=first,
                count=len(indices),
                bytes=count,
                sha256=sha256,
                latents_sha256=digest.hexdigest(),
            )
        )
        write_shard_record(folder, shards[-1])
    whole = {"num_pairs": pairs, "pairs_per_shard": per_shard, "seed": 0, **recipe}
    facts = {"licence": "MIT", "device": ["cpu"], **(build_facts or {})}
    write_manifest(folder, build_manifest(whole, fields, list(classes), shards, facts))
    return folder


RECIPE = {"generator": {"name": "a_generator", "family": "stylegan2"}, "views": {"name": "gaussian", "std": 0.2}}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """``made(pairs=30, …)``: a finished dataset of generated pairs, unless the recipe says otherwise."""
    return lambda **settings: build(tmp_path / "shards", **{**RECIPE, **settings})


class Page:
    """A page, and what is in it."""

    def __init__(self, content: bytes) -> None:
        self.bytes = content
        self.text = content.decode()
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.text, re.DOTALL)
        assert found is not None
        self.data: dict[str, Any] = json.loads(found[1])
        self.sheets = re.findall(r'<img src="(data:image/[a-z]+;base64,[^"]*)"', self.text)

    def section(self, name: str) -> str:
        """The words of a section, without markup."""
        found = re.search(rf'<section id="{name}".*?</section>', self.text, re.DOTALL)
        return "" if found is None else " ".join(re.sub(r"<[^>]*>", " ", found[0]).split())

    def picture(self, sample: int, image: int) -> np.ndarray:
        """A picture as the page holds it."""
        from PIL import Image

        data = self.data
        per_sheet = data["columns"] * data["rows"]
        with Image.open(io.BytesIO(b64decode(self.sheets[sample // per_sheet].partition(",")[2]))) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        at = sample % per_sheet
        left = (at % data["columns"] * data["images"] + image) * data["cell"][0]
        top = at // data["columns"] * data["cell"][1]
        width, height = data["sizes"][sample][image] if data["sizes"] else data["size"]
        return pixels[top : top + height, left : left + width]


@pytest.fixture
def page_of() -> Callable[..., Page]:
    """``page_of(folder, samples=…)``: its page."""
    return lambda source, **settings: Page(browse(BrowseConfig(source=str(source), **settings)).page)


@pytest.fixture(scope="session")
def expected_picture() -> Callable[[int, int, tuple[int, int]], np.ndarray]:
    """``expected_picture(i, j, size)``: picture j of pair i as it was stored."""
    return picture


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium without network, driven by selenium."""
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        lacking = "Chromium and its driver are not installed (apt-get install chromium chromium-driver)"
        pytest.fail(lacking) if os.environ.get("GENREP_CI") else pytest.skip(lacking)
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *(f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()
