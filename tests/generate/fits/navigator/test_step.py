"""One step of the game: papers' order, directions, streams, and which networks it changes."""

import copy

import numpy as np
import pytest
import torch

from genrep.generate.fits.frozen import open_frozen
from genrep.generate.fits.navigator import NavigatorTrainer
from genrep.generate.fits.navigator_scope import Scope, make_scope, styles
from genrep.infonce import info_nce
from genrep.runs.metrics import Window
from genrep.runs.processes import Processes
from genrep.seeding import derive


def trainer_of(config, **changes):
    settings = config(**changes)
    source = open_frozen(settings.gen, None, torch.device("cpu"))
    return NavigatorTrainer(settings, source, make_scope(source, settings.chunks, settings.layers))


def plain_step(trainer):
    """COP-Gen's loop as its paper and code have it: one graph, two losses, no shortcut."""
    batch, seed = trainer.config.batch_size, trainer.config.seed
    indices = np.arange(trainer.samples, trainer.samples + batch)
    anchors = trainer.source.anchors(derive("navigator", seed), indices)
    with torch.no_grad():
        x = trainer.source.generator.synthesize(anchors.z, anchors.y)
    moved = anchors.z.clone()
    moved[:, trainer.scope.start : trainer.scope.stop] += trainer.walk(trainer.scope.part(anchors.z))
    positive = trainer.source.generator.synthesize(moved, anchors.y)
    images = trainer.policy(*(image.add(1).div(2).clamp(0, 1) for image in (x, positive)), indices)
    for optimiser in trainer.optimisers.values():
        optimiser.zero_grad()
    estimated = info_nce(*trainer.estimator(images.detach()).chunk(2), 0.1)
    estimated.backward()
    trainer.optimisers["estimator"].step()
    walked = info_nce(*trainer.estimator(images).chunk(2), 0.1)
    (-walked).backward()
    trainer.optimisers["walk"].step()
    trainer.step += 1
    return float(estimated.detach()), float(walked.detach())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"chunks": "1-2", "max_distance": 0.05}, {"gen": "wavegen:conditional"}])
def test_two_steps_are_those_of_the_plain_loop(config, changes):
    ours, plain = trainer_of(config, **changes), trainer_of(config, **changes)
    losses, window = [], Window(Processes(device=torch.device("cpu")))
    for _ in range(2):
        window.add(ours.train_step())
        losses.append(plain_step(plain))
    means = window.means()
    assert means["loss_f"] == pytest.approx(np.mean([f for f, _ in losses]), rel=1e-4)
    assert means["loss_T"] == pytest.approx(np.mean([t for _, t in losses]), rel=1e-4)
    for name in ("walk", "estimator"):
        found, wanted = (getattr(side, name).state_dict() for side in (ours, plain))
        for key, value in wanted.items():
            assert torch.allclose(found[key].double(), value.double(), rtol=1e-4, atol=2e-5), (name, key)
    start = trainer_of(config, **changes).walk.layers[0].weight
    assert (ours.walk.layers[0].weight - start).abs().max() > 5e-4  # it did move: two steps of 1e-3


@pytest.mark.slow
def test_t_climbs_the_loss_that_f_descends(config):
    """Each with a small step and the other at rest, judged on the step's own images."""
    trainer = trainer_of(config, batch_size=16, lr_walk=1e-3, lr_f=1e-12, pixel_views="none")

    def loss_now():
        indices = np.arange(16)
        anchors = trainer.source.anchors(derive("navigator", 0), indices)
        shift = trainer.walk(trainer.scope.part(anchors.z))
        images = trainer.scope.positives(trainer.source, anchors, shift)
        first, second = (trainer.source.to_pixels(x) for x in (trainer.source.images(anchors), images))
        with torch.no_grad():
            return float(trainer.loss(trainer.policy(first, second, indices), anchors.labels))

    before = loss_now()
    trainer.train_step()
    assert loss_now() > before + 1e-3
    still = trainer_of(config, batch_size=16, lr_walk=1e-12, lr_f=1e-4, pixel_views="none")
    means = still.train_step()
    assert means["loss_T"] < means["loss_f"] - 1e-3  # the same images, before and after f's step


def test_the_generator_gets_no_gradient_and_f_none_from_ts_step(config):
    trainer = trainer_of(config)
    trainer.train_step()
    assert trainer.source.generator.gain.grad is None
    before = copy.deepcopy([p.grad for p in trainer.estimator.parameters()])
    views = torch.rand(8, 3, 8, 8)
    trainer._judge(views, torch.zeros(4, dtype=torch.int64))
    for old, parameter in zip(before, trainer.estimator.parameters()):
        assert torch.equal(old, parameter.grad)
        assert parameter.requires_grad


def test_anchors_are_functions_of_seed_and_number_alone(config):
    source = trainer_of(config, gen="wavegen:conditional").source
    whole = source.anchors(7, np.arange(100))
    part = source.anchors(7, np.arange(40, 45))
    assert torch.equal(part.z, whole.z[40:45])
    assert torch.equal(part.y, whole.y[40:45])
    assert torch.equal(whole.y, whole.labels)
    assert set(whole.y.tolist()) == {0, 1, 2}
    assert not torch.equal(source.anchors(8, np.arange(100)).z, whole.z)


def test_a_walk_on_chunks_moves_those_alone(waves):
    scope = make_scope(waves, "1-2", None)
    assert (scope.start, scope.stop, scope.dim) == (3, 6, 3)
    z = torch.arange(12.0).view(2, 6)
    assert torch.equal(scope.part(z), z[:, 3:])
    moved = scope.move(z, torch.ones(2, 3))
    assert torch.equal(moved - z, torch.tensor([[0.0, 0, 0, 1, 1, 1]] * 2))


def test_a_walk_on_layers_replaces_w_there_alone(stylegan, indices):
    scope = make_scope(stylegan, None, "1-2")
    anchors = stylegan.anchors(0, indices)
    shift = torch.ones(8, 8)
    ws, moved = (styles(stylegan.generator, z, None) for z in (anchors.z, anchors.z + shift))
    assert ws.shape == (8, 4, 8)
    mixed = torch.stack([ws[:, 0], moved[:, 1], moved[:, 2], ws[:, 3]], dim=1)
    found = scope.positives(stylegan, anchors, shift)
    assert torch.allclose(found, stylegan.generator.synthesize_w(mixed), atol=1e-6)
    everywhere = Scope(start=0, stop=8, layers=(0, 3)).positives(stylegan, anchors, shift)
    assert torch.allclose(everywhere, stylegan.generator.synthesize(anchors.z + shift), atol=1e-6)
    still = scope.positives(stylegan, anchors, torch.zeros(8, 8))
    assert torch.allclose(still, stylegan.images(anchors), atol=1e-6)


def test_the_supervised_loss_is_used_where_asked_for(config):
    plain, supervised = (trainer_of(config, gen="wavegen:conditional", supervised=given) for given in (False, True))
    views = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    same, different = torch.zeros(6, dtype=torch.int64), torch.arange(6)
    assert float(supervised.loss(views, same).detach()) != pytest.approx(float(plain.loss(views, same).detach()))
    assert float(supervised.loss(views, different).detach()) == pytest.approx(
        float(plain.loss(views, different).detach()), rel=1e-4
    )
