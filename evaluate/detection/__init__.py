"""Faster R-CNN on an encoder, fine-tuned end to end.

config.py    what is asked for, and the papers' settings
data.py      which images, when, at which size
network.py   the detector
training.py  its steps
testing.py   its detections, and what VOC and COCO say to them
run.py       from a config to an entry of detection.json
"""
