"""Comparisons of many runs: the grid, its processes, tables and plots; no steps, which the mains take in processes."""
