"""What a dataset shall be: recipes, as TOML files (recipe.py reads them), and conditions (conditions.py)."""
