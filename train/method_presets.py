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

# For sets of 32-px images of the embedded generators: minutes of a CPU. This project's own choices.
_SMALL: dict[str, Any] = {
    "arch": "vit_tiny_patch16_224:depth=6",  # 192 wide; 2.7 M weights
    "patch_size": 8,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "schedule": "cosine",
    "lr_floor": 0.0,
    "warmup_epochs": 1,
    "epochs": 20,
    "pixel_views": "simclr",  # gray images: neither hue nor solarisation tells much
    "crop": 32,  # the whole image's size
    "sync_batchnorm": False,
}
_SMALL_HEADS: dict[str, Any] = {"projector_layers": 3, "projector_width": 512, "projector_dim": 128}

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
    # DINO (Caron et al. 2021), facebookresearch/dino: README.md, "Vanilla DINO training", and main_dino.py's defaults.
    "dino-vit-s": (
        "DINO, ViT-S/16, 100 epochs, 2 global and 8 local crops of each anchor",
        {
            "objective": "dino",
            "arch": "vit_small_patch16_224",
            "drop_path": 0.1,  # --drop_path_rate
            "student_temperature": 0.1,  # DINOLoss
            "teacher_temperature": 0.04,  # --teacher_temp
            "teacher_warmup_epochs": 0,  # --warmup_teacher_temp_epochs
            "centring": "centre",
            "centre_momentum": 0.9,  # DINOLoss
            "prototypes": 65536,  # --out_dim
            "fixed_prototype_lengths": True,  # --norm_last_layer
            "freeze_prototypes_epochs": 1,  # --freeze_last_layer
            "head_layers": 3,  # DINOHead
            "head_width": 2048,  # DINOHead
            "bottleneck": 256,  # DINOHead
            "target_momentum": 0.996,  # --momentum_teacher
            "target_schedule": "cosine",
            "sync_batchnorm": False,  # there is none
            "batch_size": 512,  # 8 GPUs of --batch_size_per_gpu 64
            "optimizer": "adamw",
            "lr": 5e-4,  # --lr
            "beta2": 0.999,  # PyTorch's
            "weight_decay": 0.04,  # --weight_decay; none on biases and norms
            "weight_decay_end": 0.4,  # --weight_decay_end
            "clip_gradients": 3.0,  # --clip_grad
            "clip_per_tensor": True,  # utils.clip_gradients
            "schedule": "cosine",
            "lr_floor": 1e-3,  # --min_lr 1e-6, of the peak 1e-3
            "epochs": 100,  # --epochs
            "warmup_epochs": 10,  # --warmup_epochs
            "positive": "anchor",  # as theirs, on real images; stored puts a generated view in the place of a crop
            "pixel_views": "dino",
            "crop_scale": [0.4, 1.0],  # --global_crops_scale
            "local_crops": 4,  # of each of two views: --local_crops_number 8
            "local_scale": [0.05, 0.4],  # --local_crops_scale
            "local_size": 96,  # DataAugmentationDINO
            "crop": 224,
        },
    ),
    # SynCLR (Tian et al. 2024), google-research/syn-rep-learn, SynCLR/train_pytorch: README.md and main_mask_synclr.py.
    "synclr": (
        "SynCLR, ViT-B/16, 3 positives a caption, 15 epochs",
        {
            "objective": "synclr",
            "arch": "vit_base_patch16_224",  # --model base
            "temperature": 0.1,  # --contrast_temperature
            "projector_layers": 3,  # build_contrast_head
            "projector_width": 4096,  # --contrast_mlp_dim
            "projector_dim": 256,  # --contrast_output_dim
            "dino_weight": 0.0,  # --dino_loss_weight
            "ibot_weight": 1.0,  # --ibot_loss_weight, where --contrast_loss_weight is 1
            "mask_probability": 0.5,  # --mask_probability
            "mask_ratio": [0.5, 0.5],  # --mask_ratio
            "mask_shape": "random",  # --mask_shape rand
            "student_temperature": 0.1,  # iBOTPatchLoss
            "teacher_temperature": 0.07,  # --teacher_temp
            "teacher_temperature_start": 0.04,  # --warmup_teacher_temp
            "teacher_warmup_epochs": 1.0,  # --warmup_teacher_temp_epochs
            "centring": "sinkhorn",  # --centering sinkhorn_knopp
            "prototypes": 8192,  # --dino_output_dim
            "fixed_prototype_lengths": False,  # DINOHead
            "head_layers": 3,  # --dino_n_layers
            "head_width": 2048,  # --dino_mlp_dim
            "bottleneck": 256,  # --dino_bottleneck_dim
            "target_momentum": 0.994,  # --moco-m
            "target_schedule": "cosine",  # --moco-m-cos
            "sync_batchnorm": False,  # there is none
            "batch_size": 2048,  # captions: --batch_size 64 on each of 32 GPUs
            "optimizer": "adamw",
            "lr": 3e-4,  # for 256 captions of 4 images; --blr 1.5e-4 counts images, and main_mask_synclr.py halves
            "beta2": 0.98,  # --beta2
            "weight_decay": 0.1,  # --weight_decay; none on biases and norms
            "schedule": "cosine",
            "lr_floor": 0.0,  # --min_lr
            "epochs": 15,  # --epochs
            "warmup_epochs": 0.5,  # --warmup_epochs
            "positive": "all",
            "pixel_views": "synclr",  # each image draws one of two laws; here they alternate over the views
            "crop_scale": [0.32, 1.0],  # --global_crops_scale
            "local_crops": 4,  # --local_crops_number
            "local_scale": [0.08, 0.32],  # --local_crops_scale
            "local_size": 96,  # --local_crops_size
            "crop": 224,
        },
    ),
    "small-stablerep": (
        "ours, for stylegan2_fashion_cond with several positives: StableRep",
        {
            **_SMALL,
            **_SMALL_HEADS,
            "objective": "multi-positive",
            "temperature": 0.1,
            "per_view_projector": True,
            "beta2": 0.98,
            "batch_size": 256,
            "lr": 1e-3,
            "positive": "all",
        },
    ),
    "small-mocov3": (
        "ours, for stylegan2_fashion_cond: MoCo v3",
        {
            **_SMALL,
            **_SMALL_HEADS,
            "objective": "mocov3",
            "temperature": 0.2,
            "target_momentum": 0.99,
            "target_schedule": "cosine",
            "freeze_patches": True,
            "beta2": 0.999,
            "batch_size": 256,
            "lr": 1e-3,
            "positive": "stored",
        },
    ),
    "small-dino": (
        "ours, for stylegan2_fashion_cond: DINO, 2 global and 4 local crops of each anchor",
        {
            **_SMALL,
            "objective": "dino",
            "teacher_temperature": 0.05,
            "centring": "sinkhorn",
            "prototypes": 1024,
            "head_width": 512,
            "bottleneck": 32,
            "target_momentum": 0.99,
            "target_schedule": "cosine",
            "beta2": 0.999,
            "batch_size": 256,
            "lr": 1e-3,
            "weight_decay": 0.04,
            "weight_decay_end": 0.4,
            "clip_gradients": 3.0,
            "clip_per_tensor": True,
            "positive": "anchor",  # it collapses where views share no more than one of ten classes
            "local_crops": 2,
            "local_size": 16,
        },
    ),
}
