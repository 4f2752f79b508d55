"""Hours and bytes of every table for stated hardware, and where they are from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genrep.cli import invoke
from genrep.encoders import build_encoder
from genrep.generate import load_generator
from genrep.papers.cli import group
from genrep.papers.reproduce.dry_run import GENERATORS, Hardware, find_hardware, gflops, resnet_gflops
from genrep.papers.reproduce.planning import make_plan
from genrep.papers.reproduce.specs import SCALES, table_names
from genrep.papers.reproduce.works import Work, work_of
from genrep.papers.tasks.task import Task, all_tasks


def counted(network: object, *inputs: torch.Tensor) -> float:
    """GFLOPs as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)  # type: ignore[operator]
    return counter.get_total_flops() / 1e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "stem", "size"),
    [
        ("resnet50", "imagenet", 112),
        ("resnet50", "imagenet", 224),
        ("resnet18", "imagenet", 128),
        ("resnet34", "cifar", 32),
    ],
)
def test_resnets_have_the_operations_that_torch_counts(arch: str, stem: str, size: int) -> None:
    network = build_encoder(arch, stem, 0).to("meta").eval()
    found = counted(network, torch.empty(1, 3, size, size, device="meta"))
    assert resnet_gflops(arch, stem, size) == pytest.approx(found, rel=1e-6)


def test_the_embedded_generator_has_the_operations_that_torch_counts() -> None:
    generator = load_generator("stylegan2_fashion")
    assert counted(generator.synthesize, torch.zeros(1, 128)) == pytest.approx(
        GENERATORS["stylegan2_fashion"], rel=0.01
    )


def test_bigbigan_is_the_sum_of_its_layers() -> None:
    """BigGAN at 128 px (Brock et al. 2019, table 4): two 3x3 convolutions and a 1x1 a block, at the block's output."""
    sides, widths = (8, 16, 32, 64, 128), (16, 16, 8, 4, 2, 1)
    total = 2 * 20 * 16 * 16 * 96.0 + 2 * 96 * 3 * 9 * 128**2
    for side, wide, out in zip(sides, widths, widths[1:]):
        total += 2 * 96**2 * out * side**2 * (9 * wide + 9 * out + wide)
    total += 2 * 64**2 * (2 * 192 * 24 + 2 * 192 * 96) + 2 * 64**2 * 32**2 * (24 + 96)  # attention at 64 px
    assert GENERATORS["bigbigan"] == pytest.approx(total / 1e9, rel=0.002)


def told(text: str) -> tuple[float, float]:
    """Hours and gigabytes of the whole."""
    match = re.search(
        r"to do: about ([\d.]+) (s|min|h) one after another(?:; about ([\d.]+) (MB|GB|TB) on disk)?", text
    )
    assert match is not None, text[-600:]
    hours = float(match[1]) / {"s": 3600, "min": 60, "h": 1}[match[2]]
    return hours, float(match[3] or 0) * {"MB": 1e-3, "GB": 1, "TB": 1e3, None: 0}[match[4]]


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert invoke(group, ["reproduce", *arguments, "--dry-run"]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("table", table_names())
def test_every_table_at_full_scale_has_hours_and_bytes(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (table, "--scale", "full", "--out", str(tmp_path))
    slow, fast = dry_run(capsys, *arguments), dry_run(capsys, *arguments, "--hardware", "h100")
    assert "unknown" not in slow + fast
    assert "NVIDIA A100" in slow and "NVIDIA H100" in fast
    assert told(fast)[0] <= told(slow)[0] and told(fast)[1] == told(slow)[1]
    if table != "hl-fig3":
        assert "derived, not measured, as 15 % of the peak" in slow
        assert told(fast)[0] < told(slow)[0] < 3000


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_the_work_of_every_task_is_known(scale: str) -> None:
    for table in table_names():
        for task in all_tasks(make_plan(table, scale).goals):
            work = work_of(task)
            assert all(count > 0 and gflops(kind) > 0 for kind, count in work.images.items()), task.folder
            assert work.images or task.verb.name in ("subset", "figure3", "from-folder", "measure-delta")


def one(table: str, row: str, kind: str) -> Work:
    tasks: list[Task] = []
    for found in make_plan(table, "full").rows:
        if found.spec.id == row:
            tasks += [task for task in all_tasks(found.goals) if task.kind == kind]
    return work_of(tasks[0])


def test_work_is_what_the_papers_settings_make_it() -> None:
    assert one("genrep-table1", "gauss", "run").images == {"train resnet50 112": 20 * (1_300_000 // 256) * 256 * 2}
    assert one("genrep-table1", "gauss", "dataset").images == {"generate bigbigan": 2_600_000}
    assert one("genrep-table1", "inverter", "run").images == {"train resnet50 112": 20 * (1_300_000 // 256) * 256}
    assert one("cop-gen-table1", "real-simclr", "run").images == {
        "train resnet50 128": 100 * (1_281_167 // 224) * 224 * 2
    }
    samples = 100 * 1251 * 1024
    assert one("hl-table2", "hl-random-filter", "run").images == {
        **{"train resnet50 112": 2 * samples, "generate bigbigan": 2 * 2 * samples}  # of two candidates one is kept
    }
    assert one("hl-table2", "hl-learned", "fit").images == {"navigator bigbigan 112": 120_000}
    assert one("genrep-table1", "gauss", "evaluation").images == {"forward resnet50 112": 60 * 1_281_167 + 50_000}
    # 1.3 M anchors and positives of 128 x 128 pixels, half a byte each.
    assert one("genrep-table1", "gauss", "dataset").bytes == pytest.approx(2.6e6 * (128**2 / 2 + 2048))


def test_seconds_are_images_over_the_rate_and_side_by_side_with_the_cpus() -> None:
    work = Work(seconds=10.0)
    work.images["forward resnet50 224"] = 1000
    hardware = Hardware(name="x", tf32_tflops=100, sustained=0.2, cores=4)
    assert hardware.seconds(work) == pytest.approx(10 + 1000 * gflops("forward resnet50 224") / 20_000)
    work.decoded = 4e9
    assert hardware.seconds(work) == pytest.approx(10 + 3.3 * 4e9 / 1e9 / 4)
    measured = Hardware(name="x", measured={"forward resnet50 224": 50.0})
    assert measured.seconds(work) == pytest.approx(10 + 20)


def test_a_file_of_rates_stands_before_what_is_derived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('name = "our box"\nlike = "h100"\n[images_per_s]\n"train resnet50 112" = 1000\n')
    out = ("--scale", "full", "--rows", "gauss", "--out", str(tmp_path))
    text = dry_run(capsys, "genrep-table1", *out, "--hardware", str(file))
    assert "Times are those of our box" in text and "as the file says: train resnet50 112 1,000." in text
    (line,) = [line for line in text.splitlines() if "  runs/" in line]
    assert "about 14.5 h" in line or "about 14.4 h" in line  # 52 M images at 1,000 a second
    assert find_hardware(str(file)).rate("generate bigbigan") == find_hardware("h100").rate("generate bigbigan")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[images_per_s]\n'train resnet50 112' = 0", "'train resnet50 112' is 0, wanted a positive number"),
        ("[images_per_s]\n'train vit 112' = 5", "wanted work such as 'train resnet50 112'"),
        ("[images_per_s]\n'generate dalle' = 5", "wanted one of bigbigan"),
        ("like = 'a200'", "like is 'a200', wanted one of a100, h100"),
        ("sustained = 2", "sustained is 2, wanted a positive number"),
        ("speed = 2", "unknown 'speed'; known: like, images_per_s"),
        ("images_per_s = 3", "images_per_s is 3, wanted a table"),
        ("[images_per_s", "cannot be read as TOML"),
        ("bf16_tflops = 300", "no images/s of 'forward resnet50 112', 'forward resnet50 224', 'generate bigbigan'"),
    ],
)
def test_a_file_that_is_none_is_told_in_a_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rates.toml"
    file.write_text(content)
    out = ["--scale", "full", "--out", str(tmp_path), "--hardware", str(file)]
    arguments = ["reproduce", "genrep-table1", "--rows", "gauss", *out, "--dry-run"]
    assert invoke(group, arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--hardware" in said and message in said, said


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--hardware", "v100", "--dry-run"], "wanted a100, h100, or a TOML file"), (["--hardware", "a100"], "--dry-run")],
)
def test_hardware_is_for_dry_runs(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(group, ["reproduce", "genrep-fig5", "--out", str(tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
