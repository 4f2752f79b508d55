"""The generator families that genrep can run, a module or a folder each.

base.py      the protocol of a generator; probe.py: checks that a generator keeps to it
families.py  the known families, and a user's own generator
found_network.py      where a weights file keeps a generator
procedural/           sources without weights
instance_features.py  what an IC-GAN is conditioned on
"""
