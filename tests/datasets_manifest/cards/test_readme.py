"""README.md: what it says, and that it says nothing that a stranger wrote between the lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import markdown
import pytest
import yaml

from genrep.datasets_manifest.cards import CardConfig, write_card
from genrep.datasets_manifest.cards.facts import header_lines, licence_address
from genrep.datasets_manifest.cards.readme import readme_text
from genrep.datasets_manifest.manifest import read_manifest

Described = Callable[..., Path]
Rewrite = Callable[..., None]


def header(text: str) -> dict[str, Any]:
    start, block, _ = text.split("---\n", 2)
    assert start == ""
    found = yaml.safe_load(block)
    assert isinstance(found, dict)
    return found


def card(folder: Path) -> str:
    return readme_text(read_manifest(folder))


class Tags(HTMLParser):
    """The elements of a page with their attributes, without its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


def tags(text: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    body = text.split("---\n", 2)[2]
    return Tags(markdown.markdown(body, extensions=["tables", "fenced_code"])).found


def test_the_header_is_what_hugging_face_reads(originals: dict[str, Path]) -> None:
    assert header(card(originals["raw"])) == {
        "license": "unknown",
        "pretty_name": "GenRep: a generator, gaussian views",
        "size_categories": ["n<1K"],
        "task_categories": ["image-feature-extraction", "image-classification"],
        "tags": [
            "ffcv",
            "genrep",
            "contrastive-learning",
            "self-supervised-learning",
            "synthetic",
            "generated-images",
            "stylegan2",
        ],
        "annotations_creators": ["machine-generated"],
        "viewer": False,
    }


def test_a_build_of_the_embedded_generator(fashion: Path) -> None:
    manifest, text = read_manifest(fashion), card(fashion)
    assert header(text)["license"] == "mit"
    weights = manifest.build["weights"]
    for fact in (
        manifest.id,
        manifest.digest,
        weights["source"],
        weights["sha256"],
        manifest.recipe["generator"]["weights"],
        '"law": "normal"',
        '"name": "uniform"',
        "trained on Fashion-MNIST",
        "20 anchors, each with 1 positive",
        "Karras",
        "must not be presented as pictures of real people",
        "may reproduce training images",
        "![The first samples](contact-sheet.png)",
    ):
        assert fact in text, fact


def test_real_images_are_not_called_generated(originals: dict[str, Path], copy_of: Any, rewrite: Rewrite) -> None:
    folder = copy_of("real")
    rewrite(folder, lambda value: value["recipe"].update(source={"kind": "named", "name": "cifar10", "split": "train"}))
    text = card(folder)
    assert "Real images: 2 images" in text
    assert "enerated" not in text and "rebuild" not in text
    found = header(text)
    assert "synthetic" not in found["tags"] and "annotations_creators" not in found
    assert found["pretty_name"] == "GenRep: cifar10 train, real images"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-ffhq-config-f.pkl", "FFHQ"),
        ("https://github.com/greeneggsandyaml/tmp/releases/download/0.0.1/BigBiGAN_x1.pth", "ImageNet"),
        ("https://evil.example/stylegan2-ffhq-config-f.pkl", "not recorded here"),
        ("a local file", "not recorded here"),
        (7, "not recorded here"),
    ],
)
def test_training_data_is_named_where_the_weights_publisher_is_known(
    described: Described, rewrite: Rewrite, source: object, told: str
) -> None:
    folder = described()
    rewrite(folder, lambda value: value["build"]["weights"].update(source=source))
    assert told in card(folder)


def test_truncation_and_filters_are_told_as_biases(described: Described, rewrite: Rewrite) -> None:
    folder = described()
    assert "A filter kept only" in card(folder)
    assert "narrows them further" not in card(folder)

    def truncate(value: dict[str, Any]) -> None:
        value["recipe"]["generator"]["options"] = {"truncation": 0.7}
        value["recipe"]["latent"]["truncation"] = 2.0
        del value["recipe"]["filter"]

    rewrite(folder, truncate)
    assert "Truncation (psi = 0.7, latents beyond 2.0 standard deviations redrawn) narrows" in card(folder)
    assert "A filter kept only" not in card(folder)


@pytest.mark.parametrize(
    ("licence", "wanted"),
    [
        ("MIT", {"license": "mit"}),
        ("CC-BY-NC 4.0", {"license": "cc-by-nc-4.0"}),
        ("CC BY-SA 3.0", {"license": "cc-by-sa-3.0"}),
        ("unknown", {"license": "unknown"}),
        (None, {"license": "unknown"}),
        (
            "NVIDIA Source Code License-NC (non-commercial research)",
            {
                "license": "other",
                "license_name": "nvidia-source-code-license-nc-non-commercial-research",
                "license_link": "https://nvlabs.github.io/stylegan2/license.html",
                "license_details": "NVIDIA Source Code License-NC (non-commercial research)",
            },
        ),
        ("§§§", {"license": "other", "license_name": "other", "license_details": "§§§"}),
        ("1.0", {"license": "other", "license_name": "1.0", "license_details": "1.0"}),
    ],
)
def test_licences(licence: str | None, wanted: dict[str, str]) -> None:
    assert yaml.safe_load("\n".join(header_lines(licence))) == wanted


def test_addresses_of_licences() -> None:
    assert licence_address("CC-BY-NC 4.0") == "https://spdx.org/licenses/CC-BY-NC-4.0.html"
    assert licence_address("MIT (see http://evil.example)") is None


def test_a_strangers_text_changes_no_element_and_no_key(described: Described, hostile_text: str) -> None:
    plain = card(described())
    text = card(described(hostile_text))
    found, wanted = header(text), header(plain)
    known = "annotations_creators license pretty_name size_categories tags task_categories viewer"
    assert set(wanted) == set(found) == {*known.split(), "license_name", "license_details"}
    assert found["license"] == "other" and len(found["tags"]) == len(wanted["tags"])
    assert all(isinstance(value, str) and value.isprintable() for value in [found["license_details"], *found["tags"]])
    assert tags(text) == tags(plain)
    assert len(text.splitlines()) == len(plain.splitlines())
    assert all(character.isprintable() or character == "\n" for character in text)


def test_long_texts_and_many_classes_are_cut(described: Described, rewrite: Rewrite) -> None:
    folder = described("x" * 100_000)
    rewrite(folder, lambda value: value.update(classes=[f"c{i}" for i in range(5000)]))
    text = card(folder)
    assert len(text) < 20_000
    assert "`c99` and 4900 more" in text


@pytest.mark.parametrize("value", [None, [], 7, {"name": 7}, {"name": None, "options": []}, "text"])
def test_open_parts_of_any_type(described: Described, rewrite: Rewrite, value: object) -> None:
    folder = described()

    def mutate(manifest: dict[str, Any]) -> None:
        for key in ("generator", "latent", "views", "filter", "image", "source"):
            manifest["recipe"][key] = value
        manifest["build"] = dict.fromkeys(("licence", "weights", "views", "device", "packages"), value)

    rewrite(folder, mutate)
    assert header(card(folder))["size_categories"] == ["n<1K"]
    write_card(CardConfig(folder=folder))
    json.loads((folder / "croissant.json").read_bytes())


def test_prompts_latents_that_are_not_stored_and_what_a_view_drew_are_told(prompted: Path) -> None:
    text, manifest = card(prompted), read_manifest(prompted)
    for line in (
        "| `z_anchor` | float32 | 2 x 2 x 3 | not stored; recipe and index give it back | the latent that",
        "| `strength_1` | float |  |  | what the view drew for this positive |",
        "| `weight` | float |  |  | how much the pair counts |",
        "| `prompt` | int |  |  | the row of prompts.jsonl whose text made the anchor |",
        "| `prompt_2` | int |  |  | the row of prompts.jsonl whose text made `positive_1` |",
        f"| `prompts.jsonl` | 4 | {manifest.tables[0]['bytes']} | `{manifest.tables[0]['sha256']}` |",
        "- Nobody has checked that the images show what their prompts say.",
        "- Labels are the groups of the prompts.",
        'datasets_manifest.open("DIR").prompts[0]  # the text of row 0',
        "StableRep",
    ):
        assert line in text, line
    assert "a cat" not in text  # no text of a prompt is in the card


def test_real_anchors_are_told_with_their_licence(anchored: Path, rewrite: Rewrite) -> None:
    rewrite(anchored, lambda value: value["build"].update(anchors_licence="CC-BY-4.0 `x`|<b>", licence="MIT"))
    text = card(anchored)
    for line in (
        "Real images, and what a generator made of them: 5 anchors, each with 1 positive",
        "| `anchor` | image | 8 x 6 x 3 | raw | the real image |",
        "| `positive` | image | 8 x 6 x 3 | raw | made from the anchor |",
        "| `source` | int |  |  | the row of sources.jsonl, which names the real image's file |",
        "| real anchors | `photos` |",
        "| their licence | `CC-BY-4.0 \\x60x\\x60\\x7c<b>` |",
        "The anchors are real images: `CC-BY-4.0 \\x60x\\x60\\x7c<b>` is the licence stated of them.",
        "- The anchors are real images, re-encoded.",
        "- The positives are not photographs.",
        "rebuild manifest.json --out DIR --anchors IMAGES",
    ):
        assert line in text, line
    assert "train/0.jpg" not in text
    rewrite(anchored, lambda value: [value["build"].pop(key) for key in ("anchors_licence", "licence")])
    assert "The anchors are real images: no licence of theirs is stated." in card(anchored)
    assert "No licence is stated." in card(anchored)
