"""HL's Figure 3 in one run: SimCLR fed by a torch DataLoader, by FFCV, by our loader, and by the generator itself.

    python -m genrep.papers.figure3 [--gen stylegan2_fashion] [--batch-size 64] [--no-step] [--device cuda] [--devices 4]

For each batch size the ways take turns, in one process, at pairs of images of the generator's size: PNG files (Pillow, worker
processes), one FFCV file, our shards (both raw up to 64 px, JPEG above), and pairs generated on the device. A step: two pixel
views (SimCLR), ResNet-18 with torchvision's stem, projector, InfoNCE, SGD; ``ready`` is the step alone, on a batch that lies on
the device. With ``--no-step`` loading alone, up to the batch on the device. Medians over rounds; an epoch is ``--images`` pairs
(ImageNet-100's number, as in HL's code). Several devices train together (DistributedDataParallel), each on batches of its own.

Device-seconds, and the ratio by them: of all GPUs together; on a CPU of all its cores, which other users of the machine change
less. Energy: the GPUs' counters through nvidia-ml-py, the CPU's through Linux's powercap where it may be read. Where codecarbon
is installed, its estimate of the whole machine's CO2, as a rate and for ``--epochs``, by the electricity of ``--country``.

    ways.py     the sets on disk, the step, and the ways in which its batches come
    measure.py  turns of each way, with time, energy and CO2
    page.py     what was measured, as a table and as the figure's three panels
"""
