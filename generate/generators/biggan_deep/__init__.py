"""BigGAN-deep (Brock et al. 2019) as published by Hugging Face, in plain PyTorch."""
