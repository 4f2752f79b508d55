"""Presets of methods whose authors trained on prompts' images or on real ones, with the numbers of their released code.

``lr`` is the rate for 256 samples an update. StableRep counts images, six of each sample, and halves: its 2e-4 is 6e-4 here.
A dataset takes the place of the authors' images: the anchor is one, and its positives are the others of the same prompt.
"""

from __future__ import annotations

from typing import Any

# StableRep (Tian et al. 2023), google-research/syn-rep-learn, StableRep/: README.md's command and main_stablerep.py.
# Its six images of a caption are six of ten, drawn anew in each epoch; here they are the anchor and five positives.
_STABLEREP: dict[str, Any] = {
    "objective": "multi-positive",
    "arch": "vit_base_patch16_224",  # --model base: timm's, features of the class token
    "temperature": 0.1,  # --ssl-temp
    "projector_layers": 3,  # models/StableRep.py
    "projector_width": 4096,  # --ssl-mlp-dim
    "projector_dim": 256,  # --ssl-emb-dim
    "per_view_projector": True,  # models/StableRep.py: "separate BN"
    "sync_batchnorm": True,  # models/StableRep.py: the projector's
    "batch_size": 1376,  # --batch_size 43 captions on each of 32 GPUs: 8,256 images
    "optimizer": "adamw",
    "lr": 6e-4,  # --blr 2e-4, times 6 images, times num_crop / 2 = 1 / 2; the peak is 3.2e-3
    "beta2": 0.98,  # --beta2
    "weight_decay": 0.1,  # --weight_decay; none on biases and norms
    "schedule": "cosine",
    "lr_floor": 0.0,  # --min_lr
    "positive": "all",
    "pixel_views": "simclr-blur",  # without --downsample, as the published numbers; pixel_views stablerep has that
    "crop_scale": [0.08, 1.0],  # main_stablerep.py
    "crop": 224,
}

# MoCo v3 (Chen et al. 2021), facebookresearch/moco-v3: CONFIG.md's commands, main_moco.py, vits.py.
_MOCOV3: dict[str, Any] = {
    "objective": "mocov3",
    "target_momentum": 0.99,  # --moco-m
    "target_schedule": "cosine",  # --moco-m-cos
    "projector_width": 4096,  # --moco-mlp-dim
    "projector_dim": 256,  # --moco-dim
    "sync_batchnorm": True,  # main_moco.py
    "batch_size": 4096,  # -b
    "schedule": "cosine",
    "lr_floor": 0.0,  # main_moco.py
    "pixel_views": "mocov3",  # BYOL's: blur and solarisation differ between the two views
    "crop": 224,
}

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "stablerep-cc12m": (
        "StableRep, ViT-B/16, 5 positives a caption of CC12M, the schedule 3x",
        {**_STABLEREP, "epochs": 46, "warmup_epochs": 1.5},  # README.md; 1x, of 35 epochs' images: 15 and .5
    ),
    "stablerep-redcaps": (
        "StableRep, ViT-B/16, 5 positives a caption of RedCaps, the schedule 3x",
        {**_STABLEREP, "epochs": 40, "warmup_epochs": 1.35},  # README.md; 1x: 13 and .45
    ),
    # GenView (Li et al. 2024), xiaojieli0903/genview: configs_genview/mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_….py. View 0
    # is of the real image, view 1 of its variation.
    "genview-mocov3": (
        "GenView, MoCo v3 with weights of pairs, ResNet-50, 100 epochs",
        {
            **_MOCOV3,
            "weight_field": "weight",  # adjust_loss: exp of the pair's quality
            "arch": "resnet50",
            "stem": "imagenet",
            "zero_init_residual": False,  # where MoCo v3's own code says True
            "temperature": 1.0,
            "projector_layers": 2,  # neck
            "optimizer": "lars",
            "lr": 0.6,  # 9.6 at batch 4096
            "momentum": 0.9,
            "weight_decay": 1e-6,  # none on biases and batch norm
            "epochs": 100,
            "warmup_epochs": 10,
            "positive": "stored",
            "crop_scale": [0.2, 1.0],  # crop_ratio_range
        },
    ),
    "mocov3-vit-s": (
        "MoCo v3, ViT-S/16, 300 epochs, on two crops of each anchor",
        {
            **_MOCOV3,
            "arch": "vit_small_patch16_224:heads=12,position=sincos",  # vits.py: 12 heads, not timm's 6
            "temperature": 0.2,  # --moco-t
            "projector_layers": 3,  # moco/builder.py
            "freeze_patches": True,  # --stop-grad-conv1
            "optimizer": "adamw",
            "lr": 1.5e-4,  # --lr
            "beta2": 0.999,  # PyTorch's
            "weight_decay": 0.1,  # --weight-decay; theirs decays biases and norms as well
            "epochs": 300,
            "warmup_epochs": 40,
            "positive": "anchor",  # as theirs, on real images; stored puts a generated view in the place of a crop
            "crop_scale": [0.08, 1.0],  # --crop-min
        },
    ),
}
