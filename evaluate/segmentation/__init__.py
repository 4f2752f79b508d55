"""Semantic segmentation from the patches of a frozen encoder: a linear head, or nearest neighbours.

config.py     what is asked for, and the papers' settings
layout.py     which images and masks a folder holds, and how a mask is read
views.py      how they look in training and in the test
head.py       a linear head on patches, and its steps
windows.py    sliding windows, and what their scores say of each pixel
neighbours.py votes of the nearest patches
confusion.py  the exact confusion matrix, and the figures that follow from it
run.py        from a config to an entry of segmentation.json
"""
