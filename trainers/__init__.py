"""Programs that train: absl mains, the loop, and what they need. Run from a clone with `python -m trainers.<name>`."""
