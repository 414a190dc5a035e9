"""Programs that convert or show what was trained. Run from a clone with `python -m tools.<name>`."""
