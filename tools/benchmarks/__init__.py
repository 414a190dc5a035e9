"""Programs that measure time and memory, each run by hand; what they find stands in docs/, and no test times."""
