"""Comparisons of many runs: the grid, its processes, tables and plots; each run is one of the mains, in its process."""
