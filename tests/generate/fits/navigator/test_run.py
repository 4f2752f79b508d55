"""Whole runs: what they leave, going on after a kill, stopping by loss, and faults in one line."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from genrep import datasets_manifest
from genrep.errors import GeneratorError, RecipeError, ResumeError, TrainingError
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.fits.navigator import WAY, NavigatorTrainer, StopRule, fit_navigator, measured, summary
from genrep.generate.views.navigators import load_walk
from genrep.runs.metrics import Window, read_lines
from genrep.runs.processes import Processes
from genrep.runs.sanity import check_losses

pytestmark = pytest.mark.usefixtures("small_estimator")
TIMES = ("seconds", "fraction_G", "fraction_f", "images_per_s")


def metrics(run):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_lines(run / "metrics.jsonl")]


def test_a_run_leaves_walks_metrics_a_strip_and_facts(config):
    settings = config(chunks="1-2", max_distance=0.2)
    result = fit_navigator(settings)
    assert (result.samples, result.stopped) == (24, "samples")
    loaded = load_walk(settings.out)
    assert (loaded.facts.chunks, loaded.facts.samples, loaded.walk.max_distance) == ("1-2", 24, 0.2)
    assert loaded.facts.latent.chunks == (3, 2, 1)
    assert loaded.facts.loss_f == result.loss_f == metrics(settings.out)[-1]["loss_f"]
    lines = read_lines(settings.out / "metrics.jsonl")
    assert [line["samples"] for line in lines] == [8, 16, 24]
    for line in lines:
        assert 0 < line["distance_mean"] <= line["distance_max"] <= 0.2
        assert 0 < line["fraction_G"] < line["fraction_G"] + line["fraction_f"] <= 1
        assert 0 < line["loss_T"] < math.log(7) + 2
    saved = sorted(path.name for path in (settings.out / "walks").iterdir())
    assert saved == [f"walk-{samples:09d}.safetensors" for samples in (0, 8, 16, 24)]
    with Image.open(result.strip) as strip:
        assert strip.size == (
            5 * 96 + 4 * 4 + 2 * 14,
            8 * 96 + 7 * 4 + 2 * 14 + 18,
        )  # anchor and four states of T; a heading
    facts = json.loads((settings.out / "navigator.json").read_text())
    assert (facts["stopped"], facts["settings"]["lr_walk"], facts["device"]) == ("samples", 1e-3, "cpu")


def test_latents_with_rows_and_columns_are_moved_like_vectors(config, waves_folder):
    flat = fit_navigator(config(gen="wavegen:whole", out=waves_folder / "flat"))
    spatial = fit_navigator(config(gen="wavegen:spatial", out=waves_folder / "spatial"))
    assert spatial.loss_f == flat.loss_f
    built = build_dataset(
        BuildConfig(
            gen="wavegen:spatial",
            views=f"navigator:weights={waves_folder / 'spatial'}",
            num_pairs=4,
            out=waves_folder / "shards",
            processes=1,
        )
    )
    pair = datasets_manifest.open(built.folder)[3]
    assert pair["z_positive"].shape == (2, 3) and (pair["z_positive"] != pair["z_anchor"]).all()


@pytest.mark.parametrize(
    ("gen", "message"),
    [
        ("prompted", "gen wavegen:prompted: takes prompts; this command works on latents and classes"),
        (
            "noisy",
            "gen wavegen:noisy: its sampler draws noise in its steps, so its images are no function of the latent",
        ),
    ],
)
def test_generators_that_are_no_function_of_latents_are_refused_in_one_line(config, gen, message):
    settings = config(gen=f"wavegen:{gen}")
    with pytest.raises(RecipeError, match=message) as error:
        fit_navigator(settings)
    assert "\n" not in str(error.value) and not settings.out.exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_stopped(config, waves_folder, monkeypatch):
    changes = {"max_distance": 0.5, "gen": "wavegen:conditional", "log_every": 3}
    fit_navigator(config(out=waves_folder / "whole", **changes))
    step, train_step = [0], NavigatorTrainer.train_step

    def killed_in_the_fourth(trainer):
        step[0] += 1
        if step[0] == 4:
            raise KeyboardInterrupt
        return train_step(trainer)

    monkeypatch.setattr(NavigatorTrainer, "train_step", killed_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        fit_navigator(config(out=waves_folder / "parts", **changes))
    step[0] = 10
    torch.rand(5)  # the caller's stream has no part in it
    fit_navigator(config(out=waves_folder / "parts", **changes))
    for name in ("navigator.safetensors", "walks/walk-000000016.safetensors", "strip.png"):
        files = [(waves_folder / run / name).read_bytes() for run in ("whole", "parts")]
        assert files[0] == files[1], name
    assert metrics(waves_folder / "whole") == metrics(waves_folder / "parts")
    states = [torch.load(waves_folder / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts")]
    for key, value in states[0]["trainer"]["estimator"].items():
        assert torch.equal(value, states[1]["trainer"]["estimator"][key]), key


def test_a_finished_run_is_left_as_it_is_and_can_be_lengthened(config):
    fit_navigator(config(samples=8))
    before = (config().out / "navigator.safetensors").read_bytes()
    assert fit_navigator(config(samples=8)).samples == 8
    assert (config().out / "navigator.safetensors").read_bytes() == before
    assert fit_navigator(config(samples=12)).samples == 12


def test_a_folder_with_another_run_is_refused_naming_what_differs(config):
    fit_navigator(config(samples=4))
    with pytest.raises(ResumeError, match=r"holds another run \(lr_f 0\.001 there, 0\.1 asked for, max_distance None"):
        fit_navigator(config(samples=4, lr_f=0.1, max_distance=2.0))
    (config().out / "checkpoint.pt").write_bytes(b"hello")
    with pytest.raises(ResumeError, match=r"checkpoint\.pt: cannot be read .*remove it to start over"):
        fit_navigator(config(samples=4))


def test_the_loss_to_stop_at_counts_only_after_the_first_fall():
    def stops(losses, value=2.5):
        rule = StopRule()
        for number, loss in enumerate(losses):
            rule.add(loss)
            if rule.met(value):
                return number
        return None

    assert stops([4.0, 3.0, 2.0, 1.8, 2.2, 2.6, 3.0]) == 5
    assert stops([4.0, 3.0, 2.6]) is None  # never fell that far
    assert stops([4.0, 2.49, 2.51, 2.0, 2.5]) == 4  # noise on the way down is no fall
    assert stops([2.0, 1.5, 1.2]) is None
    assert stops([4.0, 1.0, 4.0], value=None) is None


def test_a_run_ends_where_the_loss_has_risen(config, monkeypatch):
    windows = iter([2.0, 1.0, 1.5, 9.0])
    monkeypatch.setattr(
        Window, "means", lambda *given, measure=Window.means: {**measure(*given), "loss_f": next(windows)}
    )
    result = fit_navigator(config(samples=1000, stop_at_loss=1.4))
    assert (result.stopped, result.samples, result.loss_f) == ("loss", 24, 1.5)
    assert load_walk(config().out).facts.samples == 24


def test_a_loss_that_is_not_finite_ends_the_run():
    means = {"loss_f": float("nan"), "loss_T": 1.0}
    with pytest.raises(
        TrainingError,
        match=r"^out runs/n: at step 7 loss_f is nan: this training has diverged; try a lower lr_f or lr_walk",
    ):
        check_losses(Path("runs/n"), 7, means, way=WAY)


def test_a_fit_that_diverges_leaves_nothing_broken(config):
    out = config().out
    with pytest.raises(TrainingError, match=r"^out .*: at step \d+ .*this training has diverged; try a lower lr_f or"):
        fit_navigator(config(samples=64, lr_walk=1e30))
    for path in (*out.rglob("*.safetensors"), *out.glob("checkpoint.pt")):
        assert all(tensor.isfinite().all() for tensor in tensors_of(path))


def tensors_of(path):
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)["trainer"]["walk"].values()
    return load_file(path).values()


def test_windows_average_over_steps_and_components():
    window = Window(Processes(device=torch.device("cpu")))
    shifts = [torch.randn(4, 3, generator=torch.Generator().manual_seed(i)) + i for i in range(2)]
    for i, shift in enumerate(shifts):
        window.add(measured(torch.tensor(1.0 + i), torch.tensor(3.0), shift))
    means, together = summary(window.means()), torch.cat(shifts).double()
    assert (means["loss_f"], means["loss_T"]) == (1.5, 3.0)
    assert means["shift_mean"] == pytest.approx(float(together.mean()))
    assert means["shift_std"] == pytest.approx(float(together.std(correction=0)))
    assert means["distance_mean"] == pytest.approx(float(together.norm(dim=1).mean()))
    assert means["distance_max"] == pytest.approx(float(together.norm(dim=1).max()))


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"gen": "wavegen:blind"}, GeneratorError, r"its images carry no gradient back to z"),
        ({"gen": "wavegen:nothing"}, RecipeError, r"^gen wavegen:nothing: cannot import it"),
        ({"chunks": "1-3"}, RecipeError, r"^chunks 1-3: this generator has chunks 0 to 2"),
        (
            {"gen": "wavegen:whole", "chunks": "0"},
            RecipeError,
            r"the latent of wavegen:whole is not divided into chunks",
        ),
        ({"layers": "0-1"}, RecipeError, r"^layers 0-1: wavegen:plain has no W; wanted a StyleGAN2, or chunks"),
        ({"supervised": True}, RecipeError, r"^supervised: wavegen:plain is unconditional"),
    ],
)
def test_what_a_generator_cannot_do_is_said_in_one_line(config, changes, error, line):
    with pytest.raises(error, match=line):
        fit_navigator(config(**changes))
