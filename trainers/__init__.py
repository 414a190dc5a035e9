"""Programs that train and score: the mains, and one folder for each thing that they need; nothing that people import.

Run them from a clone with `python -m trainers.<name>`.
"""
