"""A StyleGAN2 of one's own, trained on real images, and how good it is."""
