"""How long, and by which steps, the weights are trained."""

from __future__ import annotations

from genrep.settings import config, setting

DEFAULT_EPOCHS = 20  # GenRep on ImageNet-1k
OPTIMIZERS = ("sgd", "lars", "adamw")
SCHEDULES = ("cosine", "cosine-by-epoch")


@config
class OptimiserSettings:
    """Length, batch, optimiser and learning rate."""

    epochs: int | None = setting(
        default=None, least=1, help=f"Number of passes over the data.  [default: {DEFAULT_EPOCHS}]"
    )
    steps: int | None = setting(
        default=None, least=1, help="Number of updates; replaces --epochs.  [default: given by --epochs]"
    )
    batch_size: int = setting(
        default=256, least=2, metavar="PAIRS", help="Pairs per update, summed over all processes."
    )
    accumulate: int = setting(
        default=1,
        least=1,
        metavar="PARTS",
        help="Number of parts to split each batch into; their gradients are averaged. Only for objectives "
        "that do not compare samples.",
    )
    optimizer: str = setting(
        default="sgd",
        choices=OPTIMIZERS,
        help="Optimizer. LARS and AdamW apply no weight decay to biases and batch norm.",
    )
    lr: float | None = setting(
        default=None,
        above=0,
        help="Peak learning rate at batch size 256; scaled in proportion to --batch-size.  [default: .03 sgd, "
        ".3 lars, 1.5e-4 adamw]",
    )
    weight_decay: float | None = setting(
        default=None, least=0, help="Weight decay.  [default: 1e-4 sgd, 1e-6 lars, .1 adamw]"
    )
    weight_decay_end: float | None = setting(
        default=None,
        least=0,
        help="Weight decay at the end of training, which half a cosine leads to.  [default: that of the beginning]",
    )
    layer_decay: float = setting(
        default=1.0,
        above=0,
        most=1,
        metavar="FACTOR",
        help="Learning rate of each layer of the encoder as a part of the next layer's; 1 is the same for all.",
    )
    clip_gradients: float | None = setting(
        default=None,
        above=0,
        metavar="NORM",
        help="Norm that the gradient of all weights is shortened to where it is longer.  [default: never shortened]",
    )
    clip_per_tensor: bool = setting(
        default=False,
        negatable=True,
        help="Shorten the gradient of each tensor by itself, as DINO does.  [default: no]",
    )
    beta2: float = setting(default=0.999, least=0, below=1, help="Second beta of AdamW, of the squared gradients.")
    momentum: float = setting(default=0.9, least=0, below=1, help="Momentum of SGD and LARS.")
    schedule: str = setting(
        default="cosine",
        choices=SCHEDULES,
        help="Learning-rate schedule: a cosine that changes at every update or once per epoch.",
    )
    lr_floor: float = setting(default=1e-3, least=0, most=1, help="Final learning rate, as a fraction of the peak.")
    warmup_epochs: float | None = setting(
        default=None,
        least=0,
        metavar="EPOCHS",
        help="Epochs of linear warm-up before the cosine.  [default: 0; above batch size 256, 10 or a tenth "
        "of the run, whichever is less]",
    )
