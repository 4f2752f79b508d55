"""BigGAN (Brock et al. 2019) and its descendants BigBiGAN and IC-GAN, in plain PyTorch."""
