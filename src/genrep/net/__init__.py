"""Files on web servers, for weights and datasets alike: one client with one set of guards.

client.py  a request: ranges, bounded redirects that lead no further inside, nothing compressed, no web page for a file
limits.py  least rate, attempts, everybody's end when one fails
"""

from .client import SCHEMES, HttpAnswer, HttpFolder, shown
from .limits import Limits, Lost, Missing, Patience, RangeRefused, Refused, Stop, Stopped, persist

__all__ = [
    "SCHEMES",
    "HttpAnswer",
    "HttpFolder",
    "Limits",
    "Lost",
    "Missing",
    "Patience",
    "RangeRefused",
    "Refused",
    "Stop",
    "Stopped",
    "persist",
    "shown",
]
