"""Programs that use what was trained, and their parts; no training.

Run them from a clone with `python -m tools.<name>`.
"""
