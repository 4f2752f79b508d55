"""The generator families that genrep can run, a module or a folder each.

base.py      what all others know of a generator; probe.py: whether one keeps to it
families.py  which there are, and anyone's own
found_network.py      where a weights file keeps a generator
instance_features.py  what an IC-GAN is conditioned on
"""
