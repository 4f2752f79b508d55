"""Sources without weights (Baradad et al. 2021, "Learning to See by Looking at Noise"): images from simple random processes.

arithmetic.py        functions of normal numbers that round alike in any batch
options.py           checks of what the families take
dead_leaves.py       shapes that cover each other
fractal_noise.py     noise with a spectrum of 1 / f^a
stylegan2_random.py  a StyleGAN2 that was never trained
"""
