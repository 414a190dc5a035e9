"""What the benchmark of the layer makes of its rows: fits and Markdown tables."""

import numpy as np


def exponent_rows(rows, sizes):
    """Fits every layer's times over those of `sizes` that it ran on."""
    groups = {}
    for row in sorted(rows, key=lambda row: row["positions"]):
        if row["size"] in sizes and row["milliseconds"]:
            groups.setdefault((row["layer"], row["dtype"], row["direction"]), []).append(row)
    fitted = []
    for (layer, dtype, direction), group in groups.items():
        if len(group) > 1:
            exponent = fit_exponent(*zip(*((row["positions"], row["milliseconds"]) for row in group)))
            size = f"{group[0]['size']} to {group[-1]['size']}"
            fitted.append({"layer": layer, "size": size, "dtype": dtype, "direction": direction, "exponent": exponent})
    return fitted


def fit_exponent(positions, times):
    """The slope of log(times) against log(positions), by least squares."""
    return float(np.polyfit(np.log(positions), np.log(times), 1)[0])


def print_table(title, layers, rows, value, ratio=None):
    """Prints a Markdown table of `row[value]`, with `row[ratio]` in brackets, one column for each layer."""
    lines = {}
    for row in rows:
        text = row.get("note") or f"{row[value]:.2f}" + (f" ({row[ratio]:.2f}x)" if ratio and row[ratio] else "")
        lines.setdefault((row["size"], row["dtype"], row["direction"]), {})[row["layer"]] = text
    print(f"\n{title}\n\n| size | dtype | pass | {' | '.join(layers)} |\n{'|---' * (3 + len(layers))}|")
    for case, texts in lines.items():
        print(f"| {' | '.join([*case, *(texts.get(layer, '') for layer in layers)])} |", flush=True)
