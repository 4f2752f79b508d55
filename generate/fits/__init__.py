"""What all fits through a frozen generator share: the generator with its anchors, records of a run, its settings' names."""
