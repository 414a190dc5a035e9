"""How the benchmarks take times."""

import statistics
import time


def interleaved_medians(calls, repeats):
    """Median seconds of each function in a dictionary, all called in turn, `repeats` times."""
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
