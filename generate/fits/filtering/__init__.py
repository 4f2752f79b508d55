"""Discriminator filtering (HL): more candidates than pairs, of which a small discriminator's favourites are kept.

config.py   what a fit is asked for
network.py  the discriminator: blur, normalisation, a small convolutional network; weights.py the file that it is kept in
real.py     real images, of a folder only those that are shown
data.py     real and generated images of one shape; trainer.py one step; run.py a whole run: fit_filter
measure.py  scores of images that it has not seen; sheet.py the picture of them
spec.py     ``--filter keep=0.5,weights=FILE``; blocks.py which candidates become which pairs; source.py pairs through a filter
"""
