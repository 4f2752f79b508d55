"""StyleGAN2 (Karras et al. 2020) in plain PyTorch, without custom operators."""
