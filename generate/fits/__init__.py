"""Learning through a frozen generator: walks, navigators, and a filter's discriminator.

config.py                settings of each run
frozen.py                the frozen generator with its anchors, and what the runs share
steering.py              fit-steer: directions that shift, zoom, turn and colour (GenRep section 3.2); steering_targets.py
                         what they should do, steering_measure.py what they do
navigator.py             fit-navigator: T against mutual information (COP-Gen; HL); navigator_scope.py what T moves and f
                         sees, navigator_measure.py how far T goes and whether f follows
filtering.py             fit-filter: a discriminator that chooses pairs (HL); filtering_data.py what it is shown
                         and how well it tells
pictures.py              sheets, strips, curves and bars
"""
