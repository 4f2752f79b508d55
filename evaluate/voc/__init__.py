"""Data in Pascal VOC's layout, and average precision as VOC and COCO compute it."""
