"""What TensorBoard shows: statistics of layouts, pictures, the cost of networks; no data, no steps."""
