"""Which groups of StyleGAN2's layers carry content? Views on one group at a time, seen by a classifier of real images.

    python benchmarks/layer_groups.py --root data [--data fashion_mnist] [--gen stylegan2_fashion] [--std 1] [--pairs 2000]

For each group of W layers (and for all of them): pixels' RMS difference between anchor and positive, their distance in the
classifier's features in units of that between unrelated images, and how often both are of the same predicted class.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch


@click.command()
@click.option("--data", default="fashion_mnist", show_default=True)
@click.option("--root", type=click.Path(path_type=Path), required=True, help="Where --data lies, or is downloaded to.")
@click.option("--gen", default="stylegan2_fashion", show_default=True)
@click.option("--std", default=1.0, show_default=True)
@click.option("--pairs", default=2000, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(data: str, root: Path, gen: str, std: float, pairs: int, device: str) -> None:
    """Print a line per group."""
    from genrep.generate.pixels import to_uint8
    from genrep.generate.quality.classifier import extract, train_classifier
    from genrep.generate.views import parse_view
    from genrep.generate.views.base import Draw, synthesize_views
    from genrep.generate.weights.load import load_generator
    from genrep.images.sets import load_images

    classifier = train_classifier(load_images(data, root, "train", download=True), 0, device)
    generator = load_generator(gen, device=device)
    indices = np.arange(pairs)
    z = generator.latent.sample(0, indices)

    def images(view_text: str | None) -> torch.Tensor:
        view = parse_view(view_text) if view_text else None
        positives = z if view is None else view.transform(z, generator.latent, Draw(seed=0, indices=indices))
        parts = []
        for rows in np.split(indices, range(100, pairs, 100)):
            anchor, positive = torch.from_numpy(z[rows]).to(device), torch.from_numpy(positives[rows]).to(device)
            with torch.no_grad():
                made = (
                    generator.synthesize(anchor)
                    if view is None
                    else synthesize_views(generator, view, anchor, positive, None)
                )
            parts.append(to_uint8(made, "127.5x+128").cpu())
        return torch.cat(parts)

    anchors = images(None)
    seen = extract(classifier, anchors, device)
    unrelated = float((seen - seen.roll(1, 0)).norm(dim=1).mean())
    with torch.no_grad():
        classes = classifier.out(torch.relu(seen.float().to(device))).argmax(1).cpu()
    print(f"{gen}, noise of std {std} truncated at 2 on z of one group, {pairs} pairs")
    print("layers   RMS of pixels   feature distance   same class")
    last = generator.num_ws - 1
    for first, end in [*generator.layer_groups, (0, last + 1)]:
        positives = images(_spec(first, end, std))
        features = extract(classifier, positives, device)
        rms = float((positives.float() - anchors.float()).square().mean(dim=(1, 2, 3)).sqrt().mean())
        distance = float((features - seen).norm(dim=1).mean()) / unrelated
        with torch.no_grad():
            found = classifier.out(torch.relu(features.float().to(device))).argmax(1).cpu()
        same = float((found == classes).float().mean())
        print(f"{first}-{end - 1:<6} {rms:13.1f} {distance:18.2f} {100 * same:11.1f} %")


def _spec(first: int, end: int, std: float) -> str:
    """A view on layers first .. end - 1, written to a file since its numbers need a table."""
    import tempfile

    path = Path(tempfile.mkdtemp()) / "view.toml"
    path.write_text(
        'name = "hierarchical"\nover = "layers"\n'
        f'parts = [{{layers = "{first}-{end - 1}", view = {{name = "gaussian", std = {std}, truncation = 2.0}}}}]\n'
    )
    return str(path)


if __name__ == "__main__":
    main()
