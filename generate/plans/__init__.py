"""What an options set and a recipe come to: the plan of a dataset, whose recipe is the identity."""
