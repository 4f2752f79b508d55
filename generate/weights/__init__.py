"""Where weights lie: downloads and their converted forms, in one cache."""
