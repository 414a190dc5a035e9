"""What takes steps: trainers, the loop, checkpoints, strategies; no scores, which are in `evaluation`."""
