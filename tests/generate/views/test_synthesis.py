"""Images of a view's latents; on groups of W layers, w of each group's own latent replaces the anchor's there alone."""

import numpy as np
import pytest
import torch

from genrep.generate.generators.stylegan2.generator import StyleGAN2Generator
from genrep.generate.generators.stylegan2.networks import StyleGAN2Config, StyleGAN2Network
from genrep.generate.views import GeneratorFacts, parse_view
from genrep.generate.views.base import synthesize_views

from .conftest import draw

VIEW = parse_view("hierarchical:over=layers,0=gaussian,1-2=none,3=genrep-gaussian-conditional")


def small(num_classes=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = StyleGAN2Config(
            z_dim=8, w_dim=8, resolution=8, channels=(8, 8), num_mapping_layers=2, c_dim=num_classes
        )
        network = StyleGAN2Network(config)
        network.mapping.w_avg.normal_()
    return StyleGAN2Generator(network, **options)


def latents(generator, view, count=5):
    anchors = generator.latent.sample(0, np.arange(count))
    positives = view.transform(anchors, generator.latent, draw(count))
    return torch.from_numpy(anchors), torch.from_numpy(positives)


@pytest.mark.parametrize(
    ("num_classes", "options"),
    [(0, {}), (3, {}), (0, {"truncation": 0.6}), (0, {"truncation": 0.6, "truncation_cutoff": 1})],
)
def test_w_of_a_groups_latent_replaces_the_anchors_in_its_layers(num_classes, options):
    generator = small(num_classes, **options)
    VIEW.check(generator.latent, GeneratorFacts.of(generator))
    z, moved = latents(generator, VIEW)
    y = torch.tensor([0, 1, 2, 1, 0]) if num_classes else None

    def broadcast(latent):
        return generator.network.broadcast(
            generator.mapping(latent, y), generator.truncation, generator.truncation_cutoff
        )

    ws = broadcast(z).clone()
    ws[:, 0] = broadcast(moved[:, 0])[:, 0]
    ws[:, 3] = broadcast(moved[:, 1])[:, 3]
    expected = generator.synthesize_w(ws)
    found = synthesize_views(generator, VIEW, z, moved, y)
    assert found.shape == (5, 3, 8, 8)
    assert (found - expected).abs().max() < 1e-5
    assert (found - generator.synthesize(z, y)).abs().max() > 1e-3


def test_groups_whose_latents_are_the_anchors_give_the_anchors_images():
    generator = small(truncation=0.6)
    z, _ = latents(generator, VIEW)
    same = z[:, None].expand(-1, 2, -1)
    assert (synthesize_views(generator, VIEW, z, same, None) - generator.synthesize(z)).abs().max() < 1e-5


def test_a_view_of_the_whole_latent_is_what_the_generator_makes_of_it():
    generator, view = small(2), parse_view("gaussian")
    z, moved = latents(generator, view)
    y = torch.tensor([0, 1, 1, 0, 1])
    assert torch.equal(synthesize_views(generator, view, z, moved, y), generator.synthesize(moved, y))


def test_soft_classes_reach_every_group():
    generator = small(3)
    z, moved = latents(generator, VIEW)
    y = torch.tensor([0, 1, 2, 1, 0])
    soft = torch.nn.functional.one_hot(y, 3).float()
    found = synthesize_views(generator, VIEW, z, moved, soft)
    assert (found - synthesize_views(generator, VIEW, z, moved, y)).abs().max() < 1e-6


def test_images_are_differentiable_in_the_latents_of_every_group():
    generator = small()
    z, moved = latents(generator, VIEW)
    moved.requires_grad_()
    synthesize_views(generator, VIEW, z, moved, None).square().sum().backward()
    assert (moved.grad.abs().amax((0, 2)) > 0).all()
