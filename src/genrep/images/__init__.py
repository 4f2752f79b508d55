"""Images that users have on disk: which files they are (folders, splits, listing), and their pixels (reading)."""
