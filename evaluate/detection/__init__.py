"""Faster R-CNN on an encoder, fine-tuned end to end."""
