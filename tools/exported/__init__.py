"""What runs exports: loads them, reads the pictures they fill, draws the latents they take; no flags."""
