"""What somebody may have meant who misspelt a name."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(found: object, known: Iterable[object]) -> str:
    """`` (did you mean NAME?)`` for the known name that is most like ``found``; empty where none is."""
    from difflib import get_close_matches

    names = {str(name).casefold(): str(name) for name in known}
    close = get_close_matches(str(found)[:100].casefold(), names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close else ""


def one_of(found: object, known: Iterable[object]) -> str:
    """The known names with commas between, as a message lists them, and the one that ``found`` may have meant."""
    names = [str(name) for name in known if name is not None]
    return ", ".join(names) + suggestion(found, names)
