"""What pages, plots and sheets of pictures look like, in one place.

colours.py   colours that stay apart for colour-blind eyes, on a light and on a dark ground
plots.py     the style of every plot; needs matplotlib
sheets.py    pictures in rows, with words that can be read; needs Pillow
pages.py     HTML that holds its style and its pictures and lets nothing else in; page.css is its style
"""
