"""Comparisons of many runs: the grid, its processes, tables and plots; no flags, and no steps but the probe's."""
