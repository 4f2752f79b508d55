"""Images that users have on disk, and the pictures that we write.

folders.py    what lies in an image folder, and which folder holds a split
listing.py    the images of a split, in the order of their numbers
reading.py    the pixels of an image file
sets.py       sets by name; photo_sets.py and idx.py read some of them
labelled.py   labelled images of a split; inventory.py: the name, label and content of each
jpeg.py       what a JPEG is before it is decoded; turbojpeg.py: the JPEGs that a dataset stores
sheet.py      contact sheets
"""
