"""VideoITG in engines for a GPU."""
