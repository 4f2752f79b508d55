"""The denoiser: its loss against plain loops, its average, its learning rate, which classes it is shown."""

import numpy as np
import pytest
import torch

from genrep.generate.diffusion.model import flow_loss
from genrep.seeding import derive


def test_the_loss_is_that_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn(3, 1, 2, 2, generator=generator) for _ in range(2))
    t = torch.tensor([0.1, 0.5, 0.9])
    total = 0.0
    for b in range(3):
        for i in range(2):
            for j in range(2):
                x0, e, part = float(images[b, 0, i, j]), float(noise[b, 0, i, j]), float(t[b])
                x = (1 - part) * x0 + part * e
                predicted = 3 * x + part  # what the network below says
                total += (predicted - (e - x0)) ** 2
    loss = flow_loss(lambda x, t: 3 * x + t[:, None, None, None], images, noise, t)
    assert float(loss) == pytest.approx(total / 12, rel=1e-5)


def test_the_velocity_leads_from_the_image_to_the_noise():
    images, noise = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    assert float(flow_loss(lambda x, t: torch.ones_like(x), images, noise, torch.rand(2))) == 0.0


def test_a_step_is_the_loss_of_these_images_noise_times_and_classes(denoiser):
    model = denoiser()
    images, labels = model.real.batch(0)
    torch.manual_seed(derive("diffusion-step", 0, 0))
    noise = torch.randn_like(images)
    t = 1 / (1 + torch.exp(-torch.randn(8)))  # logit-normal
    y = torch.where(torch.rand(8) < 0.1, torch.tensor(2), labels)
    x = torch.stack([(1 - t[b]) * images[b] + t[b] * noise[b] for b in range(8)])
    with torch.no_grad():
        expected = (model.network(x, t * 1000, y).sample - (noise - images)).square().mean()
    assert float(model.train_step()["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_one_class_in_ten_is_not_told(denoiser):
    model = denoiser()
    torch.manual_seed(0)
    labels = torch.arange(20_000) % 2
    shown = model.shown_classes(labels)
    assert set(shown.tolist()) == {0, 1, 2}
    assert float((shown == 2).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(shown[shown != 2], labels[shown != 2])
    assert torch.equal(denoiser(drop_class=0.0).shown_classes(labels), labels)
    assert denoiser(classes=False).shown_classes(labels) is None


def test_the_network_is_as_the_settings_say(denoiser):
    network = denoiser().network
    assert (network.config.in_channels, network.config.sample_size) == (1, 8)
    assert network.config.num_class_embeds == 3  # two classes, and none
    assert tuple(network.config.down_block_types) == ("DownBlock2D", "AttnDownBlock2D")
    assert tuple(network.config.up_block_types) == ("AttnUpBlock2D", "UpBlock2D")
    assert denoiser(gray=False).network.config.in_channels == 3
    plain = denoiser(classes=False, attention=0).network
    assert plain.config.num_class_embeds is None
    assert tuple(plain.config.down_block_types) == ("DownBlock2D", "DownBlock2D")


def test_the_ema_half_life_is_what_it_says_and_grows_with_the_training(denoiser):
    model = denoiser(ema_halflife=80, ema_rampup=1.0)
    model.step = 1000
    for parameter in model.network.parameters():
        parameter.data.fill_(1.0)
    for parameter in model.average.parameters():
        parameter.data.fill_(0.0)
    for _ in range(10):  # 80 images
        model.update_average()
    for parameter in model.average.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.5))
    model.step = 1  # a half-life of 8 images, a batch
    model.update_average()
    for parameter in model.average.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.75))


def test_the_average_is_not_trained(denoiser):
    model = denoiser()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.train_step()
    changed = [name for name, value in model.network.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and not any(parameter.requires_grad for parameter in model.average.parameters())


def test_the_learning_rate_rises_stays_and_falls_to_zero(denoiser):
    model = denoiser(lr=1.0, total_images=800, warmup_images=80, decay=0.5)
    rates = []
    for step in range(101):
        model.step = step
        rates.append(model.rate())
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert set(rates[9:50]) == {1.0}
    assert np.diff(rates[50:101]) == pytest.approx([-0.02] * 50)
    assert rates[100] == 0.0
    assert denoiser(lr=1.0, decay=0.0, warmup_images=0).rate() == 1.0
