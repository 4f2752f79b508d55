"""Data in Pascal VOC's layout, VOC07 classification, and average precision as VOC and COCO compute it.

files.py layout.py    annotations and lists, each by itself; splits made of them
average_precision.py  of rankings and of detections
config.py svm.py run.py  VOC07: what is asked for, an SVM per class, from a config to an entry of voc07.json
"""
