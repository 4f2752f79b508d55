"""Prompts, names of real anchors and what a view drew, on the page of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_server
import pytest

from genrep.datasets_manifest import read_manifest
from genrep.datasets_manifest.browsing import BrowseConfig, browse, gather
from genrep.datasets_manifest.tables import write_prompts
from genrep.errors import DatasetError

from .conftest import Page
from .test_hostile import ACTIVE

PageOf = Callable[..., Page]


def told(page: Page, sample: int) -> dict[str, str]:
    return dict(page.data["told"][sample])


def test_prompts_stand_with_their_pairs(prompted: Path, page_of: PageOf, known_latents: object) -> None:
    page = page_of(prompted)
    assert told(page, 3) == {
        "Prompt": "ein Hund, \u72ac \U0001f415",
        "Group": "dog",
        "Prompt of positive": "a cow",
        "Prompt of positive_1": "a cat",
        "Strength": "6.4",
        "Strength 1": "7.4",
        "Weight": "8.4",
    }
    assert "<b>co" not in page.text and told(page, 2)["Prompt"] == 'a "dog" \\ & <b>co\u00ffee</b>'
    assert page.data["distances"] is not None  # of latents that were made again
    facts = page.section("facts")
    assert "Prompts 4" in facts and "Drawn per pair strength, strength_1, weight" in facts
    assert "Latents not stored: recipe and index give them back" in facts
    assert 'dataset.prompts[pair["prompt"]]' in page.text.replace("&quot;", '"')


def test_real_anchors_are_named(anchored: Path, page_of: PageOf) -> None:
    page = page_of(anchored)
    assert page.data["names"] == ["real anchor", "positive"]
    assert told(page, 1) == {"Real anchor": "train/\u00fc <b>.jpg", "Noise level": "3.2"}
    assert "Real anchors, generated positives" in page.text
    assert page.data["distances"] is None
    assert "Real anchors 3 of photos" in page.section("facts")


def test_of_a_set_without_texts_nothing_is_told(originals: dict[str, Path], page_of: PageOf) -> None:
    assert page_of(originals["raw"]).data["told"] is None


def test_latents_that_cannot_be_made_again_cost_only_their_distances(
    prompted: Path, page_of: PageOf, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(prompted)  # its recipe is none
    assert page.data["distances"] is None and len(page.data["told"]) == 5
    assert "distances in latent space are left out" in capsys.readouterr().err


def test_at_an_address_the_tables_are_fetched_unless_they_are_large(
    anchored: Path, page_of: PageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder_server.serving(anchored) as address:
        assert told(page_of(address), 0)["Real anchor"] == "train/0.jpg"
        found = browse(BrowseConfig(source=address))
        monkeypatch.setattr(gather, "_fetch_tables", lambda *_: 0)
        assert (
            found.fetched - browse(BrowseConfig(source=address)).fetched == read_manifest(anchored).tables[0]["bytes"]
        )
        assert told(page_of(address), 1)["Real anchor"] == "row 1"


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "<!--", "x" * 10_000]
)
def test_a_strangers_prompts_do_nothing(
    prompted: Path, page_of: PageOf, rewrite: Callable[..., None], text: str, known_latents: object
) -> None:
    facts = write_prompts(prompted / "prompts.jsonl", [(text, text[:1000])] * 4)

    def seal(value: dict[str, Any]) -> None:
        value["tables"] = [facts]
        value["recipe"]["prompts"]["sha256"] = facts["sha256"]

    rewrite(prompted, seal)
    page = page_of(prompted)
    assert not [word for word in ACTIVE if word in page.text]
    assert len(told(page, 0)["Prompt"]) <= 400


def test_a_damaged_table_is_told_in_one_line(prompted: Path, page_of: PageOf, known_latents: object) -> None:
    path = prompted / "prompts.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a cat", b"a\x1b[5m"[:5]))
    assert hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(data).digest()
    with pytest.raises(DatasetError, match=r"prompts\.jsonl: line 1: not JSON") as caught:
        page_of(prompted)
    assert str(caught.value).isprintable()
    path.write_bytes(data[:-1])
    with pytest.raises(DatasetError, match=r"prompts\.jsonl: .* bytes, the manifest says"):
        page_of(prompted)
