"""The page in a real browser: it loads from disk without a complaint, and mouse, keyboard and screen readers get everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.datasets_manifest.browsing import BrowseConfig, browse

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of selenium's connection to its driver
]
KEYS = {"left": "\ue012", "up": "\ue013", "right": "\ue014", "down": "\ue015", "escape": "\ue00c", "enter": "\ue007"}
KEYS |= {
    "tab": "\ue004",
    "home": "\ue011",
    "end": "\ue010",
    "page up": "\ue00e",
    "page down": "\ue00f",
    "space": "\ue00d",
}
HOSTILE = '</script><img src=x onerror="document.title=1"> "\'\u202e & <b>'


class View:
    """A page that is open in the browser."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, address: str = "") -> View:
        wanted = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.resize(width, height)
        self.browser.get("about:blank")
        self.browser.get(f"file://{path}{address}")
        self.browser.execute_async_script(
            "const done = arguments[0];"
            "const look = () => document.documentElement.dataset.ready ? done() : setTimeout(look, 20); look();"
        )
        return self

    def resize(self, width: int, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def js(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def click(self, selector: str, place: int = 0) -> None:
        self.browser.find_elements("css selector", selector)[place].click()

    def choose(self, name: str, value: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.browser.find_element("id", name)).select_by_value(value)

    def press(self, *names: str) -> None:
        from selenium.webdriver import ActionChains

        for name in names:
            ActionChains(self.browser).send_keys(KEYS[name]).perform()

    def text(self, selector: str) -> str:
        return str(self.browser.find_element("css selector", selector).text)

    def cards(self) -> list[int]:
        """The indices that the grid shows."""
        labels = self.js(
            "return [...document.querySelectorAll('.card')].map((card) => card.getAttribute('aria-label'))"
        )
        return [int(label.split(",")[0].split()[1]) for label in labels]

    def focused(self) -> str:
        return str(self.js("return document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))

    def is_open(self) -> bool:
        return bool(self.js("return document.getElementById('dialog').open"))

    def complaints(self) -> list[Any]:
        return list(self.browser.get_log("browser"))


@pytest.fixture
def view(chromium: Any) -> View:
    """A browser that has nothing to say yet."""
    chromium.get_log("browser")
    return View(chromium)


@pytest.fixture
def written(made: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """``written(samples=…, pairs=…)``: a page on disk."""

    def write(samples: int = 300, **settings: Any) -> Path:
        out = tmp_path / "page.html"
        browse(BrowseConfig(source=str(made(**settings)), out=out, samples=samples))
        return out

    return write


def test_it_loads_and_pages(view: View, written: Callable[..., Path]) -> None:
    view.open(written(pairs=60, per_shard=60))
    assert view.text("h1") == "a_generator, gaussian views"
    assert view.cards() == list(range(24))
    assert view.text("#status") == "1 to 24 of 60 sampled pairs" and view.text("#page") == "Page 1 of 3"
    view.click("#next")
    assert view.cards() == list(range(24, 48))
    view.click("#last")
    assert view.cards() == list(range(48, 60))
    assert view.js("return [...document.querySelectorAll('.pager button')].map((button) => button.disabled)") == [
        *(False, False, True, True)
    ]
    view.choose("per-page", "12")
    assert view.cards() == list(range(12)) and view.text("#page") == "Page 1 of 5"
    assert view.complaints() == []


def test_pictures_are_drawn_to_the_pixel(
    view: View, written: Callable[..., Path], expected_picture: Callable[..., np.ndarray]
) -> None:
    view.open(written(pairs=150, per_shard=150, size=(20, 64)))
    view.choose("per-page", "150")
    view.js("return new Promise((done) => setTimeout(done, 200))")
    for i in (0, 59, 60, 149):  # of three sheets
        for j in (0, 1):
            values = view.js(
                "const canvas = document.querySelectorAll('.card')[arguments[0]].querySelectorAll('canvas')[arguments[1]];"
                "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]",
                i,
                j,
            )
            found = np.array(values, np.uint8).reshape(20, 64, 4)
            assert (found[..., :3] == expected_picture(i, j, (20, 64))).all()
    style = view.js("return getComputedStyle(document.querySelector('.card canvas')).imageRendering")
    assert style == "pixelated" and view.complaints() == []


def test_small_pictures_are_enlarged_by_whole_numbers(view: View, written: Callable[..., Path]) -> None:
    view.open(written(size=(32, 32)))
    widths = {}
    for size in ("small", "medium", "large"):
        view.choose("size", size)
        widths[size] = view.js("return document.querySelector('.card canvas').getBoundingClientRect().width")
    assert widths == {"small": 64, "medium": 96, "large": 192}


def test_filter_by_class(view: View, written: Callable[..., Path]) -> None:
    view.open(written())
    view.choose("class", "1")
    assert view.cards() == list(range(1, 30, 3))
    assert view.text("#status") == "1 to 10 of 10 sampled pairs"
    assert view.text(".classes button[aria-pressed=true] bdi") == "dog"
    view.click(".classes button", 2)
    assert view.cards() == list(range(2, 30, 3)) and view.js("return document.getElementById('class').value") == "2"
    view.click(".classes button", 2)  # once more: all
    assert view.cards() == list(range(24)) and view.js("return document.getElementById('class').value") == "all"
    assert view.complaints() == []


def test_order_by_distance(view: View, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    far = [3.0, 1.0, 2.0, None, 5.0]
    monkeypatch.setattr(
        "genrep.datasets_manifest.browsing.distances.Distances.add",
        lambda self, anchor, positives: far[round(anchor[0] / 10)] and [far[round(anchor[0] / 10)]],
    )
    view.open(written(pairs=5))
    view.choose("order", "near")
    assert view.cards() == [1, 2, 0, 4, 3]
    view.choose("order", "far")
    assert view.cards() == [4, 0, 2, 1, 3]  # one whose distance is not known stays behind
    view.choose("order", "index")
    assert view.cards() == [0, 1, 2, 3, 4]


def test_order_by_likeness(view: View, written: Callable[..., Path]) -> None:
    view.open(written(pairs=20))
    differences = [
        one for (one,) in view.js("return JSON.parse(document.getElementById('data').textContent).differences")
    ]
    assert len(set(differences)) > 1
    view.choose("order", "alike")
    assert view.cards() == sorted(range(20), key=lambda i: differences[i])
    view.choose("order", "unlike")
    assert view.cards() == sorted(range(20), key=lambda i: -differences[i])


def test_a_pair_opens_large(view: View, written: Callable[..., Path]) -> None:
    view.open(written(positives=2))
    view.click(".card", 13)
    assert view.is_open() and view.text("#dialog-title") == "Pair 13" and view.text("#of") == "14 of 30"
    assert view.js("return [...document.querySelectorAll('#large figcaption')].map((one) => one.textContent)") == [
        *("anchor", "positive distance 1, pixels 36.9", "positive_1 distance 2, pixels 73.7")
    ]
    facts = view.text("#dialog-facts").split("\n")
    assert facts == [
        *("Index", "13", "Class", "dog (label 1)"),
        *("Lies in", "shard-00001.beton, sample 1", "In Python", "dataset[13]"),
    ]
    small = view.js("return document.querySelectorAll('.card canvas')[0].getBoundingClientRect().width")
    assert view.js("return document.querySelector('#large canvas').getBoundingClientRect().width") > 2 * small
    view.click("#after")
    assert view.text("#dialog-title") == "Pair 14"
    view.click("#close")
    assert not view.is_open() and view.focused() == "Pair 14, cow, distance 1.5"
    assert view.complaints() == []


def test_the_difference_from_the_anchor(view: View, written: Callable[..., Path]) -> None:
    view.open(written(positives=2))
    view.click(".card", 5)
    view.click("#difference")
    view.js("return new Promise((done) => setTimeout(done, 100))")
    values = view.js(
        "return [...document.querySelectorAll('#large canvas[aria-label^=difference]')].map((canvas) =>"
        "[...canvas.getContext('2d').getImageData(0, 0, 1, 1).data].slice(0, 3))"
    )
    assert values == [[0, 80, 100], [0, 160, 200]]  # twice 40 and 50, twice 80 and 100
    view.press("right")
    view.js("return new Promise((done) => setTimeout(done, 100))")
    assert len(view.browser.find_elements("css selector", "#large canvas")) == 5
    assert view.complaints() == []


def test_the_keyboard_gets_everywhere(view: View, written: Callable[..., Path]) -> None:
    view.open(written(pairs=60, per_shard=60), width=1280)
    view.press("tab")
    assert view.js("return document.activeElement.className") == "skip"
    assert view.js("return document.activeElement.getBoundingClientRect().left") >= 0
    for _ in range(40):
        view.press("tab")
        if view.focused().startswith("Pair 0,"):
            break
    assert view.focused() == "Pair 0, cat, distance 1"
    assert view.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    view.press("right", "right", "left")
    assert view.focused().startswith("Pair 1,")
    view.press("down")
    across = int(view.focused().split(",")[0].split()[1]) - 1
    assert across > 1
    view.press("up", "end")
    assert view.focused().startswith("Pair 23,")
    view.press("right")  # on to the next page
    assert view.focused().startswith("Pair 24,") and view.text("#page") == "Page 2 of 3"
    view.press("left")
    assert view.focused().startswith("Pair 23,")
    view.press("page down", "page down")
    assert view.focused().startswith("Pair 48,")
    view.press("page up", "home")
    assert view.focused().startswith("Pair 24,")
    view.press("enter")
    assert view.is_open() and view.text("#dialog-title") == "Pair 24"
    view.press("left", "left", "right", "down")
    assert view.text("#dialog-title") == "Pair 24"
    view.press("home", "left")
    assert view.text("#dialog-title") == "Pair 0"
    view.press("end", "right")
    assert view.text("#dialog-title") == "Pair 59"
    view.press("escape")
    assert not view.is_open() and view.focused().startswith("Pair 59,") and view.text("#page") == "Page 3 of 3"
    assert view.complaints() == []


def test_the_focus_stays_in_the_large_view(view: View, written: Callable[..., Path]) -> None:
    view.open(written())
    view.click(".card", 3)
    places = set()
    for _ in range(8):
        view.press("tab")
        places.add(view.js("return document.activeElement.closest('dialog') ? 'in' : document.activeElement.tagName"))
    assert places <= {"in", "BODY"}  # BODY: the browser's own bar, on the way round


def test_a_pair_has_an_address(view: View, written: Callable[..., Path]) -> None:
    path = written()
    view.open(path, address="#pair-17")
    assert view.is_open() and view.text("#dialog-title") == "Pair 17"
    view.press("right")
    assert view.js("return location.hash") == "#pair-18"
    view.open(path, address="#pair-1000000")
    assert not view.is_open() and view.complaints() == []


def test_a_hostile_class_name_is_text(view: View, written: Callable[..., Path]) -> None:
    view.open(written(classes=(HOSTILE, "dog", "cow"), views={"name": HOSTILE}, generator={"name": HOSTILE}))
    shown = ascii(HOSTILE)
    assert view.text(".classes bdi") == shown
    assert view.js("return document.querySelector('#class option[value=\"0\"]').textContent") == f"{shown} (10)"
    view.choose("class", "0")
    assert view.text(".card .meta bdi") == shown
    view.click(".card")
    assert f"{shown} (label 0)" in view.text("#dialog-facts")
    assert view.js("return document.querySelectorAll('img[src=x], dialog b:not(figcaption b), .classes b').length") == 0
    assert view.js("return document.title") != "1" and view.complaints() == []


def test_the_policy_stops_what_slips_through(view: View, written: Callable[..., Path]) -> None:
    path = written()
    injected = '<img src="http://127.0.0.1:9/x.png"><script>document.title="broken in"</script><p style="color:red">'
    path.write_text(path.read_text().replace("<main>", f"<main>{injected}"))
    view.open(path)
    assert view.js("return document.title") != "broken in"
    assert len(view.complaints()) == 3 and view.cards()


@pytest.mark.parametrize("width", [320, 768, 1440, 3840])
@pytest.mark.parametrize("kind", ["pairs", "many", "real"])
def test_no_width_scrolls_sideways(view: View, written: Callable[..., Path], width: int, kind: str) -> None:
    long = "Rolls-Royce Phantom Drophead Coupe Convertible 2012 with a long name and_no_break_in_it_at_all"
    settings: dict[str, Any] = {
        "pairs": {"size": (64, 48)},
        "many": {"positives": 7, "size": (40, 90), "classes": (long, f"{long}2"), "pairs": 8, "per_shard": 8},
        "real": {
            "positives": 0,
            "z_anchor": None,
            "generator": None,
            "varying": True,
            "size": (90, 200),
            "classes": (long,),
        },
    }[kind]
    view.open(written(**settings), width=width)
    for size in ("small", "medium", "large"):
        view.choose("size", size)
        assert view.js("return document.documentElement.scrollWidth") <= width
        overflowing = view.js(
            "return [...document.querySelectorAll('.card')].filter((card) => card.scrollWidth > card.clientWidth + 1).length"
        )
        assert overflowing == 0
    view.js("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert view.js("return document.documentElement.scrollWidth") <= width
    view.click(".card")
    assert view.js("return document.getElementById('dialog').getBoundingClientRect().right") <= width
    dialog = "document.getElementById('dialog')"
    assert view.js(f"return {dialog}.scrollWidth <= {dialog}.clientWidth")
    assert view.complaints() == []


def contrast(one: list[int], other: list[int]) -> float:
    """WCAG's ratio of two colours."""

    def luminance(colour: list[int]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_legible_by_day_and_by_night(view: View, written: Callable[..., Path], dark: bool) -> None:
    view.open(written(), dark=dark)
    pairs = view.js(
        """
        const number = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
        const ground = (node) => {
          for (; node; node = node.parentElement) {
            const found = number(getComputedStyle(node).backgroundColor);
            if (found.length === 3 || found[3] > 0) return found;
          }
          return null;
        };
        return [...document.querySelectorAll('h1, h2, p, dd, dt, a, pre, select, .meta span, figcaption, button:enabled, li')]
          .filter((node) => node.offsetParent && !node.classList.contains('skip'))
          .map((node) => [number(getComputedStyle(node).color), ground(node), node.tagName + '.' + node.className]);
        """
    )
    assert len(pairs) > 80
    for text, ground, where in pairs:
        assert contrast(text, ground) >= 4.5, where
    body = view.js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(body) < 40) == dark
    bars = view.js(
        "return ['.bar', '.other'].map((name) => getComputedStyle(document.querySelector(name)))"
        ".map((style, k) => (k ? style.stroke : style.fill).match(/\\d+/g).map(Number))"
    )
    assert all(contrast(bar, [255, 255, 255] if not dark else [23, 27, 32]) >= 3 for bar in bars)
    assert view.complaints() == []


def test_screen_readers_find_names_for_everything(view: View, written: Callable[..., Path]) -> None:
    view.open(written())
    tree = view.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    for role in ("button", "link", "combobox", "region", "navigation", "list", "image", "heading"):
        named = [name for found, name in nodes if found == role]
        assert named, role
        if role != "list":
            assert all(named), role
    roles = [role for role, _ in nodes]
    assert roles.count("main") == 1 and roles.count("banner") == 1 and roles.count("contentinfo") == 1
    assert [name for role, name in nodes if role == "region"] == [
        *("Pairs", "Facts", "Classes", "Distances", "How to load it", "Limits and citation")
    ]
    assert view.js("return document.documentElement.lang") == "en"
    levels = view.js("return [...document.querySelectorAll('h1, h2, h3')].map((node) => Number(node.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    ids = view.js("return [...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))


def test_without_scripts_the_sheets_and_facts_are_there(view: View, written: Callable[..., Path]) -> None:
    path = written()
    view.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        view.browser.get(f"file://{path}")
        assert view.browser.find_element("css selector", ".sheets img").is_displayed()
        assert not view.browser.find_element("css selector", ".bar-of-tools").is_displayed()
        assert "a_generator" in view.text("#facts")
    finally:
        view.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_code_is_copied_or_marked(view: View, written: Callable[..., Path]) -> None:
    view.open(written())
    view.click(".snippet-head button", 1)
    view.js("return new Promise((done) => setTimeout(done, 200))")
    said = view.text(".snippet:nth-of-type(2) button")
    assert said in ("Copied", "Selected")
    if said == "Selected":
        assert view.js("return getSelection().toString()") == "genrep-manifest verify shards --level full"
    assert json.dumps(view.complaints()) == "[]"
