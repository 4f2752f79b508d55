"""Vision transformers in others' checkpoints, translated to timm's names whole or not at all.

find.py    which networks a file holds, which is meant, and the network as ours
names.py   the names of its tensors in each layout, and timm's
told.py    what a file or the configuration beside it says: heads, activation, images
shapes.py  what its shapes tell; named.py: what timm says of a name
families.py  whose it is, and what all of that origin have
facts.py   from all of these to the facts that the network is built from
"""

from .find import FoundTransformer, find_transformer

__all__ = ["FoundTransformer", "find_transformer"]
