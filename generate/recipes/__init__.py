"""Recipes describe a dataset: TOML files, which recipe.py reads, and conditions (conditions.py)."""
