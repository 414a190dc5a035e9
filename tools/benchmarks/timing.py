"""How the benchmarks take times and memory."""

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


def peak_gib(process="self"):
    """Peak memory of this process or another, by its number; what `getrusage` tells includes the parent's."""
    with open(f"/proc/{process}/status", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmHWM"].split()[0]) / 2**20  # from KiB
