"""Plans: settings and a recipe become the plan of a dataset, whose resolved recipe is its identity.

config.py      settings of ``dataset`` and ``from-folder``
resolve.py     settings, a recipe and its generator become a plan; the way back: a manifest's recipe, which may be a
               stranger's, becomes settings
build_plan.py  the plan: shards, their index ranges and sizes
"""
