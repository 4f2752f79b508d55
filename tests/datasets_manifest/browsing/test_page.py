"""The page of a dataset: what it shows is what the dataset holds, and nothing comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep import datasets_manifest
from genrep.datasets_manifest.browsing import BrowseConfig, browse
from genrep.datasets_manifest.describe import facts
from genrep.errors import ConfigError, DatasetError, ResumeError

Made = Callable[..., Path]
PageOf = Callable[..., Any]


class Elements(HTMLParser):
    """All elements with their attributes; fails for markup that a browser would have to guess at."""

    VOID = ("meta", "link", "img", "input", "rect", "path", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID or (tag == "rect" and self.rawdata[self.offset - 2 : self.offset - 1] == "x"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_it_needs_nothing_besides_itself(made: Made, page_of: PageOf) -> None:
    page = page_of(made())
    elements = Elements(page.text).found
    for tag, attributes in elements:
        assert not any(name.startswith("on") or name in ("style", "srcset", "action") for name in attributes), (
            attributes
        )
        for name in ("src", "href"):
            if (address := attributes.get(name)) is not None:
                outside = tag == "a" and address.startswith(
                    "https://spdx.org/licenses/"
                )  # a link that a reader may follow
                assert address.startswith(("data:image/", "#")) or outside, address
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert [tag for tag, _ in elements].count("style") == 1


def test_the_policy_names_the_style_and_the_script(made: Made, page_of: PageOf) -> None:
    text = page_of(made()).text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and text.index(policy[0]) < text.index("<style>")
    digests = []
    for tag in ("style", "script"):
        inner = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inner is not None
        digests.append(base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode())
    assert policy[1] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_pairs_are_spread_over_all_indices(made: Made, page_of: PageOf) -> None:
    page = page_of(made(pairs=120, per_shard=50), samples=24)
    indices = page.data["index"]
    assert [i * 24 // 120 for i in indices] == list(range(24))  # one of each fifth pair
    assert page.data["label"] == [i % 3 for i in indices]
    assert set(Counter(page.data["label"])) == {0, 1, 2}  # classes take turns: a fixed distance would meet one only
    assert "24 of 120 pairs, spread evenly over all of them" in page.section("pairs")


@pytest.mark.parametrize("positives", [0, 1, 3])
def test_small_pictures_are_shown_to_the_pixel(
    made: Made, page_of: PageOf, expected_picture: Callable[..., np.ndarray], positives: int
) -> None:
    page = page_of(made(positives=positives), samples=10)
    assert page.data["exact"] and page.data["images"] == positives + 1
    for sample, i in enumerate(page.data["index"]):
        for j in range(positives + 1):
            assert (page.picture(sample, j) == expected_picture(i, j, (12, 16))).all()
    assert "Every pixel is shown as it is stored" in page.section("pairs")
    assert page.data["noun"] == ("pair" if positives else "image")


def test_several_sheets(made: Made, page_of: PageOf, expected_picture: Callable[..., np.ndarray]) -> None:
    page = page_of(made(pairs=150, size=(20, 64), per_shard=80), samples=150)
    assert len(page.sheets) == 3 and len(page.data["index"]) == 150
    for sample in (0, 59, 60, 119, 120, 149):
        assert (page.picture(sample, 1) == expected_picture(sample, 1, (20, 64))).all()
    assert "All 150 pairs." in page.section("pairs")


def test_not_too_many_on_a_page(made: Made, page_of: PageOf) -> None:
    folder = made(pairs=1001, per_shard=1001, size=(4, 4))
    for samples, wanted in (
        (12, []),
        (13, ["12", "13"]),
        (1000, ["12", "24", "48", "96", "1000"]),
        (1001, ["12", "24", "48", "96"]),
    ):
        menu = re.search(r'<select id="per-page".*?</select>', page_of(folder, samples=samples).text)
        assert re.findall(r'value="(\d+)"', menu[0] if menu else "") == wanted


def test_jpegs(made: Made, page_of: PageOf, expected_picture: Callable[..., np.ndarray]) -> None:
    page = page_of(made(encoding="jpeg:95:444", size=(96, 80)), samples=10)
    assert not page.data["exact"] and page.data["size"] == [80, 96]
    for sample, i in enumerate(page.data["index"]):
        shown = page.picture(sample, 0)[8:72, 8:72].astype(int)
        assert abs(shown - expected_picture(i, 0, (64, 64))[0, 0]).max() < 16
    assert "compressed once more" in page.section("pairs")


def test_images_of_several_sizes(made: Made, page_of: PageOf, expected_picture: Callable[..., np.ndarray]) -> None:
    folder = made(size=(20, 30), varying=True, positives=0, z_anchor=None, generator=None, source={"name": "photos"})
    page = page_of(folder, samples=30)
    for sample, i in enumerate(page.data["index"]):
        size = (20 - i % 3, 30 - i % 2)
        assert (page.picture(sample, 0) == expected_picture(i, 0, size)).all()
    assert "Real images" in page.text and "up to 20 × 30 pixels, each its own" in page.section("facts")
    assert page.data["distances"] is None and page.section("distances") == ""


@pytest.mark.slow
def test_the_page_stays_within_its_size(made: Made, page_of: PageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (12, 2, 256, 256, 3), dtype=np.uint8)
    monkeypatch.setattr(
        "genrep.datasets_manifest.browsing.gather.read_field",
        lambda beton, i, name: noise[i % 12, int("pos" in name)] if "z_" not in name else np.zeros(4, np.float32),
    )
    folder = made(size=(256, 256), pairs=12, per_shard=12)
    page = page_of(folder, samples=12, megabytes=1.0)
    assert 300_000 < len(page.bytes) <= 1_000_000
    assert f"reduced from 256 to {max(page.data['size'])} pixels" in page.section("pairs")
    larger = page_of(folder, samples=12, megabytes=4.0)
    assert max(larger.data["size"]) > max(page.data["size"])
    with pytest.raises(
        ConfigError, match=r"samples 12: their pictures take more than .* even at 48 pixels; wanted fewer"
    ):
        monkeypatch.setattr("genrep.datasets_manifest.browsing.ROOM", 990_000)
        page_of(folder, megabytes=1.0)


@pytest.mark.parametrize(("size", "form"), [((12, 16), "png"), ((96, 96), "jpeg")])
def test_without_webp(made: Made, page_of: PageOf, monkeypatch: pytest.MonkeyPatch, size: Any, form: str) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    page = page_of(made(size=size), samples=5)
    assert page.sheets[0].startswith(f"data:image/{form};base64,")
    assert page.picture(0, 0).shape == (*size, 3)


def test_more_positives_than_are_shown_are_said(made: Made, page_of: PageOf) -> None:
    page = page_of(made(positives=20, pairs=6, per_shard=6), samples=6)
    assert page.data["images"] == 8
    assert "Of 20 positives of each the first 7 are shown, 13 are not." in page.section("pairs")
    assert "The first 12 of 20 are drawn." in page.section("distances")


def test_classes_and_their_counts(made: Made, page_of: PageOf) -> None:
    page = page_of(made(pairs=31), samples=1)
    assert "Counts over all 31 pairs." in page.section("classes")
    assert re.findall(r"(cat|dog|cow) (\d+)", page.section("classes")) == [("cat", "11"), ("dog", "10"), ("cow", "10")]
    buttons = re.findall(r'data-label="(\d)" aria-pressed="false"( disabled)?', page.text)
    assert [not off for _, off in buttons].count(True) == 1  # only one class is among the one pair that is shown


def test_samples_of_no_class_are_counted(made: Made, page_of: PageOf) -> None:
    words = page_of(made(pairs=5, lowest=-1)).section("classes")  # labels -1, 0, 1, 2, -1
    counts = [("cat", "1"), ("dog", "1"), ("cow", "1"), ("no class", "2")]
    assert re.findall(r"(no class|cat|dog|cow) (\d+)", words) == counts


def test_without_classes(made: Made, page_of: PageOf) -> None:
    page = page_of(made(classes=()))
    assert page.section("classes") == "" and page.data["classes"] == {} and 'id="class"' not in page.text


def test_many_classes_are_cut_and_counted(made: Made, page_of: PageOf) -> None:
    page = page_of(made(pairs=1100, per_shard=1100, classes=tuple(f"c{k}" for k in range(1050)), size=(4, 4)))
    assert "50 more classes, of 50 pairs, are not listed." in page.section("classes")


def test_distances_of_each_positive(made: Made, page_of: PageOf) -> None:
    page = page_of(made(positives=3), samples=10)
    assert page.data["distances"] == [[1.0, 2.0, 3.0]] * 10
    words = page.section("distances")
    assert "over 30 of 30 pairs" in words
    for name, median, part in (
        ("positive", "1.00", "10.0"),
        ("positive_1", "2.00", "20.0"),
        ("positive_2", "3.00", "30.0"),
    ):
        told = f"{name} median {median}, 90 % from {median} to {median}; {part} % of that between unrelated anchors"
        assert told in words
    assert "unrelated anchors 10.0" in words


def test_distances_of_each_chunk(made: Made, page_of: PageOf) -> None:
    page = page_of(made(latent={"chunks": [1, 3]}))
    words = page.section("distances")
    assert "chunk 0 median 0, " in words and "chunk 1 median 1.00, " in words and "In each part of the latent" in words


def test_distances_of_each_view_over_chunks(made: Made, page_of: PageOf) -> None:
    views = {
        "name": "hierarchical",
        "over": "chunks",
        "parts": [
            {"chunks": "0-1", "view": {"name": "gaussian"}},
            {"chunks": "2", "view": None},
            {"chunks": "3", "view": {"name": "uniform"}},
        ],
    }
    words = page_of(made(latent={"chunks": [1, 1, 1, 1]}, views=views)).section("distances")
    assert "chunks 0-1: gaussian median 0, " in words and "chunks 3: uniform median 1.00, " in words
    assert "chunks 2" not in words


def test_distances_of_each_group_of_layers(made: Made, page_of: PageOf) -> None:
    parts = [{"layers": "0-3", "view": {"name": "gaussian"}}, {"layers": "4-7", "view": {"name": "uniform"}}]
    views = {"name": "hierarchical", "over": "layers", "parts": parts}
    page = page_of(made(z_positive=(2, 4), views=views))
    words = page.section("distances")
    assert "layers 0-3: gaussian median 1.00" in words and "layers 4-7: uniform median 1.00" in words
    assert page.data["distances"][0] == [pytest.approx(2**0.5, abs=1e-3)]
    assert "a latent of its own for every group" in words


def test_latents_that_cannot_be_compared(made: Made, page_of: PageOf) -> None:
    page = page_of(made(z_positive=(3, 7)))
    assert page.data["distances"] is None
    words = page.section("distances")
    assert "In latent space" not in words and "Latents of anchors and positives cannot be compared" in words


def test_differences_in_pixels(made: Made, page_of: PageOf, expected_picture: Callable[..., np.ndarray]) -> None:
    page = page_of(made(positives=2), samples=10)
    wanted = []
    for i in page.data["index"]:
        anchor, *others = (expected_picture(i, j, (12, 16)).astype(float) for j in range(3))
        wanted.append([((other - anchor) ** 2).mean() ** 0.5 for other in others])
    assert np.allclose(page.data["differences"], wanted, rtol=1e-3)
    words = page.section("distances")
    assert "over the 10 pairs that are shown." in words
    assert f"positive median {np.median([one for one, _ in wanted]):.1f}, " in words.replace("\u00a0", " ")


def test_images_of_two_sizes_are_not_compared(made: Made, page_of: PageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "genrep.datasets_manifest.browsing.gather.reduced", lambda image, side: image[image[0, 0, 2] // 50 :]
    )
    page = page_of(made(pairs=3))
    assert page.data["differences"] == [[None]] * 3 and page.data["distances"] == [[1.0]] * 3


def test_a_mixture_says_that_its_views_are_together(made: Made, page_of: PageOf) -> None:
    views = {"name": "mix", "parts": [{"weight": 0.5, "view": {"name": "gaussian"}}] * 2}
    assert "made by one of 2 views" in page_of(made(views=views)).section("distances")


@pytest.mark.filterwarnings("error")
def test_latents_that_are_no_numbers_are_counted(made: Made, page_of: PageOf) -> None:
    folder = made(pairs=5, per_shard=5)
    shard = folder / "shard-00000.beton"
    data = shard.read_bytes()
    place = data.index(np.array([20, 0, 0, 1], "<f4").tobytes())  # z_positive of pair 2
    shard.write_bytes(data[:place] + np.array([np.nan, np.inf, 3e38, -3e38], "<f4").tobytes() + data[place + 16 :])
    page = page_of(folder)
    assert page.data["distances"] == [[1.0], [1.0], None, [1.0], [1.0]]
    assert "1 pairs are left out: their latents are not finite numbers." in page.section("distances")


def test_it_says_what_show_says(made: Made, page_of: PageOf) -> None:
    folder = made(build_facts={"weights": {"source": "package:x", "licence": "MIT"}, "packages": [{"torch": "2.6"}]})
    page = page_of(folder)
    words = unescape(page.section("facts"))
    for name, value in facts(datasets_manifest.read_manifest(folder)):
        assert name in words and value in words, name
    assert "a_generator" in words and "gaussian std=0.2" in words and "torch 2.6" in words
    manifest = datasets_manifest.read_manifest(folder)
    assert manifest.id in words and f"--digest {manifest.digest}" in page.section("load")


def test_a_signature_is_mentioned(made: Made, page_of: PageOf) -> None:
    folder = made()
    assert "Signature none" in page_of(folder).section("facts")
    (folder / "manifest.json.minisig.md").write_text("x")
    assert "Signature there is one, not checked here" in page_of(folder).section("facts")


def test_no_path_of_this_machine_is_in_it(made: Made, page_of: PageOf) -> None:
    folder = made()
    assert str(folder.parent) not in page_of(folder).text
    assert "· <bdi>shards</bdi>" in page_of(f"{folder}/manifest.json").text


def test_the_same_page_each_time(made: Made, page_of: PageOf) -> None:
    folder = made()
    assert page_of(folder).bytes == page_of(f"file://{folder}").bytes


def test_a_damaged_dataset_is_refused(made: Made, rewrite: Callable[..., None]) -> None:
    folder = made()
    path = folder / "shard-00001.beton"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DatasetError, match=rf"^{path}: truncated"):
        browse(BrowseConfig(source=str(folder)))
    path.write_bytes(whole)
    rewrite(folder, lambda manifest: manifest.update(classes=["cat"]))
    with pytest.raises(DatasetError, match=r"sample 1 has label 1, wanted -1 to 0"):
        browse(BrowseConfig(source=str(folder)))


def test_jpegs_that_cannot_be_decoded_are_refused(made: Made) -> None:
    folder = made(encoding="jpeg:90", size=(96, 96), pairs=3)
    path = folder / "shard-00000.beton"
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xd8\xff")
    data[place + 2 : place + 200] = bytes(198)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"sample 0: anchor"):
        browse(BrowseConfig(source=str(folder)))


def test_shards_that_are_missing(made: Made, page_of: PageOf) -> None:
    folder = made()
    (folder / "shard-00001.beton").unlink()
    with pytest.raises(DatasetError, match=r"shard-00001\.beton: missing; a part of a dataset is taken with partial$"):
        browse(BrowseConfig(source=str(folder)))
    page = page_of(folder, partial=True)
    assert page.data["index"] == [*range(12), *range(24, 30)]
    assert "spread evenly over 2 of 3 shards" in page.section("pairs")
    assert "Counts over the 18 pairs of 2 of 3 shards" in page.section("classes")
    for path in folder.glob("*.beton"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"shard-00000\.beton: missing$"):
        browse(BrowseConfig(source=str(folder), partial=True))


def test_a_page_is_not_written_over_others(made: Made, tmp_path: Path) -> None:
    folder, out = made(), tmp_path / "page.html"
    report = browse(BrowseConfig(source=str(folder), out=out))
    assert out.read_bytes() == report.page and report.pairs == 30
    with pytest.raises(ResumeError, match=r"^out .*page\.html: exists; wanted a new file, or force"):
        browse(BrowseConfig(source=str(folder), out=out))
    browse(BrowseConfig(source=str(folder), out=out, force=True, samples=3))
    assert out.read_bytes() != report.page
    for place, reason in (
        (folder / "page.html", "lies in the dataset"),
        (tmp_path, "a folder; wanted a file"),
        (tmp_path / "nowhere" / "page.html", "is not there"),
    ):
        with pytest.raises(ResumeError, match=reason):
            browse(BrowseConfig(source=str(folder), out=place))


def test_latents_of_enormous_size_are_not_read(made: Made, page_of: PageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made()
    monkeypatch.setattr("genrep.datasets_manifest.browsing.gather.MAX_LATENT_BYTES", 29 * 32)
    page = page_of(folder)  # 30 pairs of two latents of 16 bytes
    assert "In latent space" not in page.section("distances") and page.data["distances"] is None
    monkeypatch.setattr("genrep.datasets_manifest.browsing.gather.MAX_LATENT_BYTES", 10 * 32)
    assert "over 10 of 30 pairs" in page_of(folder, samples=10).section("distances")
