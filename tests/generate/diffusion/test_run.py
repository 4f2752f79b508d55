"""Runs of fit-diffusion: what they leave, that stops change nothing, what is refused."""

import json
import signal
import sys

import pytest
import torch
from PIL import Image

from genrep.cli import invoke
from genrep.errors import ConfigError, DataError, ResumeError, Terminated, TrainingError
from genrep.generate.cli import cli
from genrep.generate.diffusion.model import Denoiser
from genrep.generate.diffusion.trainer import DiffusionTrainer, fit_diffusion

FOLDER = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.slow
def test_a_run_leaves_a_model_folder_facts_sheets_and_losses(config, data):
    out = fit_diffusion(config(), data())
    index = json.loads((out / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    assert index["genrep"] == {"null_class": True, "channels": 1, "prediction": "flow"}
    facts = json.loads((out / "generator.json").read_text())
    assert (facts["family"], facts["name"], facts["classes"]) == ("diffusers", "flow-toy", ["even", "odd"])
    training = facts["training"]
    assert (training["images_seen"], training["data_licence"], training["channels"]) == (64, "MIT", [4, 8])
    rows = lines(out)
    assert [row["images"] for row in rows] == [32, 64]
    assert {"loss", "gradient_norm", "lr", "seconds"} <= rows[0].keys()
    with Image.open(out / "samples-000000064.png") as sheet:
        assert sheet.width > 10 * 96 and sheet.height > 4 * 4 * 96  # a band of four rows for each of four guidances


@pytest.mark.slow
def test_the_library_reads_the_folder(config, data):
    from diffusers import UNet2DModel, UniPCMultistepScheduler

    settings = config()
    out = fit_diffusion(settings, data())
    network = UNet2DModel.from_pretrained(out / "unet", use_safetensors=True, torch_dtype=torch.float32)
    trained = torch.load(out / "checkpoint.pt", weights_only=True)["trainer"]["average"]
    assert network.state_dict().keys() == trained.keys()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=1e-3, atol=1e-6)  # it was stored as fp16
    scheduler = UniPCMultistepScheduler.from_pretrained(out / "scheduler")
    scheduler.set_timesteps(4)
    x = torch.randn(2, 1, 8, 8)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t, torch.tensor([0, 2])).sample, t, x).prev_sample
    assert torch.isfinite(x).all()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "ends"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_run_that_a_signal_stopped_goes_on_to_the_same_bytes(config, data, one_thread, monkeypatch, number, ends):
    whole = fit_diffusion(config("whole"), data())
    step = DiffusionTrainer.train_step

    def asked_to_end(self):
        if self.step == 2:
            signal.raise_signal(number)
        return step(self)

    with monkeypatch.context() as patched, pytest.raises(ends):
        patched.setattr(DiffusionTrainer, "train_step", asked_to_end)
        fit_diffusion(config("parts"), data())
    assert torch.load(config("parts").out / "checkpoint.pt", weights_only=True)["trainer"]["step"] == 3
    assert not (config("parts").out / "model_index.json").exists()
    parts = fit_diffusion(config("parts"), data())
    for name in (*FOLDER, "model_index.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert without_times(lines(whole)) == without_times(lines(parts))


@pytest.mark.slow
def test_a_killed_run_repeats_its_steps_from_the_last_checkpoint(config, data, one_thread, monkeypatch):
    whole = fit_diffusion(config("whole"), data())
    step = DiffusionTrainer.train_step

    def breaks(self):
        if self.step == 7:
            raise SystemExit(137)
        return step(self)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(DiffusionTrainer, "train_step", breaks)
        fit_diffusion(config("parts"), data())
    assert torch.load(config("parts").out / "checkpoint.pt", weights_only=True)["trainer"]["step"] == 4
    parts = fit_diffusion(config("parts"), data())
    assert (whole / FOLDER[1]).read_bytes() == (parts / FOLDER[1]).read_bytes()


@pytest.mark.slow
def test_the_end_may_move_and_other_settings_may_not(config, data):
    fit_diffusion(config(), data())
    fit_diffusion(config(total_images=80), data())
    assert json.loads((config().out / "generator.json").read_text())["training"]["images_seen"] == 80
    with pytest.raises(ResumeError, match=r"channels \[4, 8\] there, \[4, 4\] asked for"):
        fit_diffusion(config(channels=(4, 4)), data())


@pytest.mark.slow
def test_an_unconditional_one_of_colour(config, data):
    out = fit_diffusion(config(classes=False, total_images=8), data(gray=False))
    index = json.loads((out / "model_index.json").read_text())
    assert index["genrep"] == {"null_class": False, "channels": 3, "prediction": "flow"}
    assert json.loads((out / "generator.json").read_text())["classes"] == []
    assert json.loads((out / "unet/config.json").read_text())["num_class_embeds"] is None


def test_a_run_that_diverges_leaves_nothing_broken(config, data):
    with pytest.raises(TrainingError, match=r"^out .*image .*: this training has diverged; try a lower lr"):
        fit_diffusion(config(lr=1e30, warmup_images=0), data())
    assert not (config().out / "model_index.json").exists()
    assert not (config().out / "checkpoint.pt").exists()


def test_a_gradient_far_beyond_its_clip_ends_a_run_before_anything_is_written(config, data, monkeypatch):
    """Losses and weights stay finite: a bfloat16 network did so for 600,000 images, and drew noise."""
    plain = Denoiser.train_step

    def exploding(self):
        return {**plain(self), "gradient_norm": torch.tensor(1e6)}

    monkeypatch.setattr(Denoiser, "train_step", exploding)
    with pytest.raises(
        TrainingError, match="the norm of the gradient is 1e\\+06: this training has diverged"
    ) as caught:
        fit_diffusion(config(), data())
    assert "try a lower --lr, or --precision fp32" in caught.value.in_shell()
    assert not [*config().out.glob("samples-*"), *config().out.glob("checkpoint*")]


def test_settings_that_do_not_fit_are_refused_in_one_line(config, data):
    with pytest.raises(ConfigError, match=r"^channels 6: wanted multiples of norm_groups 4"):
        config(channels=(4, 6))
    with pytest.raises(DataError, match=r"^channels 4,4,4,4,4: images of 8 pixels cannot be halved 4 times"):
        fit_diffusion(config(channels=(4,) * 5), data())
    without = data().take(range(8), "train")
    without.labels[:] = -1
    with pytest.raises(DataError, match=r"^data toy: has images without a class; wanted .*, or classes switched off"):
        fit_diffusion(config(), without)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--channels", "16,x"], "--channels"),
        (["--channels", "16,20"], "--channels 20: wanted multiples of --norm-groups 8"),
        (["--drop-class", "1"], "--drop-class"),
        (["--device", "nowhere"], "--device nowhere"),
        (["--data", "nothing"], "dataset 'nothing': neither a folder nor one of"),
    ],
)
def test_a_wrong_command_line_is_one_line(tmp_path, capsys, options, said):
    out = tmp_path / "run"
    assert invoke(cli, ["fit-diffusion", "--data", "fashion_mnist", "--out", str(out), *options]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not out.exists()


def test_a_machine_without_diffusers_is_told_of_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    out = tmp_path / "run"
    assert invoke(cli, ["fit-diffusion", "--data", "fashion_mnist", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "need diffusers" in error and error.count("\n") == 1 and not out.exists()


def test_a_dry_run_shows_the_settings_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    assert invoke(cli, ["fit-diffusion", "--data", "fashion_mnist", "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "drop_class" in said and "16" in said and not out.exists()


@pytest.mark.gpu
def test_it_trains_on_a_gpu(config, data):
    out = fit_diffusion(config(device="cuda", precision="auto"), data())
    assert (out / "model_index.json").is_file()
