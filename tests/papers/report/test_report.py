"""The page: what stands beside what, its means, and that its files are the same for the same results."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrep.papers.report import ReportConfig, ReportResult, Row, write_report
from genrep.papers.report.config import rows_of
from genrep.papers.report.papers import dataset_facts


def report(work, *rows: Row, **more) -> ReportResult:
    return write_report(ReportConfig(rows=rows, out=work.root / "out", **more))


def row(*paths: Path, name: str | None = None, **more) -> Row:
    return Row(name=name or paths[0].name, runs=paths, **more)


def test_unlike_protocols_never_share_a_table(work, tables_of) -> None:
    short = {**work.frozen, "epochs": 2}
    one = work.results("one", work.entry(60.0), work.entry(50.0, protocol=short), work.entry(40.0, dataset="cifar10"))
    two = work.results("two", work.entry(61.0))
    tables = tables_of(report(work, row(one), row(two)).markdown.read_text())
    title = "fashion_mnist, linear probe, preset frozen"
    assert [line[:2] for line in tables[f"{title} (epochs 60)"][1:]] == [["one", "60.00"], ["two", "61.00"]]
    assert [line[:2] for line in tables[f"{title} (epochs 2)"][1:]] == [["one", "50.00"]]
    assert [line[:2] for line in tables["cifar10, linear probe, preset frozen"][1:]] == [["one", "40.00"]]


def test_published_numbers_stand_beside_results_of_the_same_preset_and_dataset(work, tables_of) -> None:
    mine = work.results("mine", work.entry(60.0, dataset="imagenet100", protocol=work.genrep))
    tables = tables_of(report(work, row(mine, published=("genrep-table4/gauss",))).markdown.read_text())
    head, ours, *others = tables["imagenet100, linear probe, preset genrep"]
    column = head.index("top-1, published, linear-genrep")
    assert ours[0] == "mine" and ours[1] == "60.00" and ours[column] == "61.52"
    assert "GenRep, Table 4" in ours
    assert all(line[1] == "" and line[0].startswith("published: ") for line in others)  # never in our column
    values = [line[column] for line in others]
    assert "58.60" in values and "65.46" in values and "63.96" not in values  # COP-Gen's has another preset
    assert "67.36" not in values  # an encoder of real images: measured at another rate
    assert "61.52" not in values  # it stands beside ours


@pytest.mark.parametrize(
    "change",
    [{"epochs": 2}, {"preset": "cop-gen"}, {"test_images": 15}, {"test_transform": "Resize(64)"}, {"lr": 0.5}],
)
def test_published_numbers_of_another_protocol_have_their_own_table(work, tables_of, change) -> None:
    mine = work.results("mine", work.entry(60.0, dataset="imagenet100", protocol={**work.genrep, **change}))
    tables = tables_of(report(work, row(mine, published=("genrep-table4/gauss",))).markdown.read_text())
    results = next(table for title, table in tables.items() if title.startswith("imagenet100"))
    assert len(results) == 2 and not any("published" in cell for line in results for cell in line)
    head, *other = tables["Published, other protocol"]
    (beside,) = [line for line in other if "61.52" in line]
    assert beside[head.index("our row")] == "mine" and beside[head.index("protocol")] == "linear-genrep"
    assert any("74.88" in line for line in other)  # the row's detection as well


def test_means_are_over_encoders_where_there_are_several(work, tables_of) -> None:
    values = np.array([[60.0, 61.0], [63.0, 65.0], [59.0, 59.5]])
    folders = [
        work.results(f"seed{k}", *(work.entry(v, seed=s, encoder_sha256=str(k) * 64) for s, v in enumerate(line)))
        for k, line in enumerate(values)
    ]
    text = report(work, row(*folders, name="many"), row(folders[1], name="one")).markdown.read_text()
    ((_, *lines),) = [table for title, table in tables_of(text).items() if title.startswith("fashion_mnist")]
    per_encoder = values.mean(axis=1)
    assert lines[0][1] == f"{per_encoder.mean():.2f} ± {per_encoder.std(ddof=1):.2f}"
    assert lines[0][2] == "3 encoders, 2 seeds each"
    assert lines[1][1] == f"{values[1].mean():.2f} ± {values[1].std(ddof=1):.2f}" and lines[1][2] == "2 seeds"


def test_a_result_in_two_files_counts_once(work, tables_of) -> None:
    folder = work.results("a", work.entry(60.0))
    work.results("a", work.entry(60.0), work.entry(62.0, seed=1), file="transfer.json")
    tables = tables_of(report(work, row(folder)).markdown.read_text())
    assert tables["fashion_mnist, linear probe, preset frozen"][1][1:3] == ["61.00 ± 1.41", "2 seeds"]


def test_each_evaluation_shows_its_quantities(work, tables_of) -> None:
    folder = work.results("a", work.entry(60.0, top5=90.0))
    work.results("a", work.entry(70.5, protocol={"name": "knn", "k": 20}, top5=95.0), file="knn.json")
    work.results("a", work.entry(79.0, protocol={"name": "voc07", "variant": "default"}), file="voc07.json")
    values = {kind: {"AP": ap, "AP50": 80.0, "AP75": 50.0} for kind, ap in (("voc07", 52.5), ("coco", 40.0))}
    detection = work.entry(52.5, protocol={"name": "detection"}, values=values)
    work.results("a", detection, file="detection.json")
    tables = tables_of(report(work, row(folder)).markdown.read_text())
    heads = {title.partition(", ")[2]: table[0] for title, table in tables.items() if title.startswith("fashion")}
    assert heads["linear probe, preset frozen"][1:3] == ["top-1 (%)", "top-5 (%)"]
    assert heads["nearest neighbours"][1:3] == ["top-1 (%)", "top-5 (%)"]
    assert heads["VOC classification, preset default"][1] == "mAP (%)"
    assert heads["detection"][1:5] == ["AP (%)", "AP50 (%)", "AP75 (%)", "COCO AP (%)"]


def test_the_mean_of_hls_seven_datasets(work, tables_of) -> None:
    names = ("birdsnap", "caltech101", "cifar100", "dtd", "flowers102", "food101", "pets")
    entries = [
        work.entry(10.0 * k, dataset=name, protocol={**work.hl, **dataset_facts(name)}, seed=seed)
        for k, name in enumerate(names)
        for seed in (0, 1)
    ]
    whole = work.results("whole", *entries, file="transfer.json")
    part = work.results("part", *entries[2:], file="transfer.json")
    few = [{**one, "protocol": {**one["protocol"], "train_images": 300}, "encoder_sha256": "b" * 64} for one in entries]
    fewer = work.results("fewer", *few, file="transfer.json")
    tables = tables_of(report(work, row(whole), row(part), row(fewer)).markdown.read_text())
    head, mean, *others = tables["mean of 7, linear probe, preset hl"]
    assert mean[:3] == ["whole", "30.00 ± 0.00", "2 seeds"]
    assert all(line[0].startswith("published") for line in others)
    column = head.index("top-1, published, linear-hl-mean7")
    assert [line[column] for line in others][:2] == ["58.2", "47.2"]


def test_facts_of_encoders(work, tables_of) -> None:
    data = work.gaussian(0.2)
    runs = [work.run(f"seed{seed}", 60.0, sets=(data,), seed=seed) for seed in (0, 1)]
    head, line = tables_of(report(work, row(*runs, name="mine")).markdown.read_text())["Encoders"]
    facts = dict(zip(head, line))
    assert facts["encoder"] == "resnet18, imagenet stem" and facts["objective"] == "simclr"
    assert facts["trained on"] == "stylegan2_fashion, gaussian:std=0.2,truncation=2, 10,000 pairs"
    assert facts["length"] == "4 epochs, 400 steps" and facts["seed"] == "0; 1"
    assert facts["training"] == "80 s"  # 400 steps of 200 images at 1000 a second
    assert facts["data made in"] == "25 s on cpu"


def test_data_that_is_gone_or_another_now_is_said(work) -> None:
    data = work.gaussian(0.2)
    other, gone = work.run("other", 60.0, sets=(data,), dataset_id="f" * 64), work.run("gone", 61.0)
    (gone / "config.json").write_text(
        (gone / "config.json").read_text().replace('"data": []', '"data": ["/nowhere/set"]')
    )
    result = report(work, row(other), row(gone))
    assert result.notes == (
        "other: dataset gaussian-0.2-10000 has been replaced by another one: its views are not known",
        "gone: dataset set is not there: its views are not known",
    )
    assert all(note in result.markdown.read_text() for note in result.notes)


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(work) -> None:
    rows = [row(work.run(f"std{std}", 60 + std, sets=(work.gaussian(std),))) for std in (0.1, 0.2)]
    first = report(work, *rows)
    before = {path.name: path.read_bytes() for path in first.markdown.parent.iterdir()}
    report(work, *rows)
    assert {path.name: path.read_bytes() for path in first.markdown.parent.iterdir()} == before
    assert set(before) == {"report.md", "report.html", "report-results.json", "report-std-1.png", "report-curves.png"}
    numbers = json.loads(before["report-results.json"])
    assert [(one["row"], one["results"][0]["value"]) for one in numbers] == [("std0.1", 60.1), ("std0.2", 60.2)]
    assert all(one["results"][0]["protocol"] for one in numbers)


class Page(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def data_of(address: str | None) -> bytes:
    assert address is not None and address.startswith("data:image/png;base64,")
    return base64.b64decode(address.partition(",")[2])


def test_the_html_holds_its_pictures_and_needs_nothing_else(work) -> None:
    result = report(work, *(row(work.run(f"std{std}", 60, sets=(work.gaussian(std),))) for std in (0.1, 0.2)))
    text = result.html.read_text()
    page = Page(text)
    pictures = [data_of(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert pictures == [path.read_bytes() for path in result.pictures]
    names = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name in ("style", "action") for name in attributes)
        assert tag not in ("script", "iframe", "object", "base", "form")
        assert (attributes.get("href") or "#").startswith("data:image/svg+xml" if tag == "link" else "#")
        assert tag != "a" or str(attributes["href"]).removeprefix("#") in names
    assert not re.search(r"url\(|@import", text)
    markdown = result.markdown.read_text()
    assert [name in markdown for name in ("](report-std-1.png)", "](report-curves.png)")] == [True, True]


def test_plots_follow_the_readers_choice_of_light_or_dark(work) -> None:
    result = report(work, *(row(work.run(f"std{std}", 60, sets=(work.gaussian(std),))) for std in (0.1, 0.2)))
    page = Page(result.html.read_text())
    sources = [attributes for tag, attributes in page.tags if tag == "source"]
    assert len(sources) == len(result.pictures) == 2
    for source, path in zip(sources, result.pictures):
        assert source["media"] == "(prefers-color-scheme: dark)"
        with Image.open(path) as light, Image.open(io.BytesIO(data_of(source["srcset"]))) as dark:
            assert light.size == dark.size
            grounds = [picture.convert("RGB").getpixel((0, 0)) for picture in (light, dark)]
        assert grounds == [(255, 255, 255), (23, 27, 32)]


def test_the_policy_names_the_one_style(work) -> None:
    text = report(work, row(work.results("one", work.entry(60.0)))).html.read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and policy[1] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_what_others_published_is_set_apart(work) -> None:
    mine = work.results("mine", work.entry(60.0, dataset="imagenet100", protocol=work.genrep))
    text = report(work, row(mine, published=("genrep-table4/gauss",))).html.read_text()
    assert re.search(r'<td class="r theirs">61\.52</td>', text) and '<td class="r">60.00</td>' in text
    theirs = re.findall(r'<tr class="theirs"><td>([^<]*)</td>', text)
    assert theirs and all(name.startswith("published: ") for name in theirs)


def test_text_of_files_stays_text(work, tables_of) -> None:
    hostile = "<script>alert(1)</script> | [x](javascript:y)\n# $\\frac{ ~~`"
    protocol = {**work.frozen, "note": hostile, hostile: 1}
    folder = work.run("a", 60.0, objective=hostile)
    work.results("a", work.entry(60.0, dataset=hostile, protocol=protocol, device=hostile))
    result = report(work, row(folder, name=hostile), title=hostile, text=(hostile,))
    page = Page(result.html.read_text())
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "table", "thead", "tbody", "tr"),
        *("th", "td", "ul", "li", "details", "summary", "dl", "dt", "dd", "img", "picture", "source"),
        *("link", "a", "div", "header", "nav", "main", "section"),
    }
    assert page.text.count("<script>alert(1)</script> | [x](javascript:y) # $\\frac{ ~~`") >= 6
    markdown = result.markdown.read_text()
    assert "<script>" not in markdown.replace("\\<script>", "") and "\n# $" not in markdown
    for table in tables_of(markdown).values():
        assert {len(line) for line in table} == {len(table[0])}


def test_without_matplotlib_the_page_is_written(work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = report(work, *(row(work.run(f"std{std}", 60, sets=(work.gaussian(std),))) for std in (0.1, 0.2)))
    assert result.notes == ("matplotlib is not installed: no plots; pip install matplotlib",)
    assert not result.pictures and "60.00" in result.markdown.read_text()


def test_a_row_without_results_yet_is_said(work) -> None:
    folder = work.run("training", 1.0)
    (folder / "linear.json").unlink()
    result = report(work, row(folder), row(work.results("done", work.entry(60.0))))
    assert result.notes == ("training: no results yet",)


def test_rows_of_the_command_line(tmp_path: Path) -> None:
    for name in ("a/run", "b/run", "lr=0.1"):
        (tmp_path / name).mkdir(parents=True)
    a, b, rate = (str(tmp_path / name) for name in ("a/run", "b/run", "lr=0.1"))
    assert [(one.name, len(one.runs)) for one in rows_of((f"x={a}", f"y={rate}", f"x={b}"))] == [("x", 2), ("y", 1)]
    assert [one.name for one in rows_of((a, b, rate))] == [a, b, "lr=0.1"]
    assert rows_of((f"y={rate}",))[0].runs == (Path(rate),)


def test_results_may_lie_elsewhere_than_the_run(work, tables_of) -> None:
    run = work.run("train", 60.0)
    (run / "linear.json").unlink()
    elsewhere = work.results("measured", work.entry(61.0))
    mine = Row(name="mine", runs=(run,), results=(elsewhere / "linear.json",))
    tables = tables_of(report(work, mine).markdown.read_text())
    assert tables["fashion_mnist, linear probe, preset frozen"][1][:2] == ["mine", "61.00"]
    assert "4 epochs, 400 steps" in tables["Encoders"][1]


def test_rows_need_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different names"):
        ReportConfig(rows=(row(tmp_path, name="x"), row(tmp_path, name="x")), out=tmp_path)
    with pytest.raises(ValueError, match="row 'x': wanted a run or results"):
        Row(name="x")
