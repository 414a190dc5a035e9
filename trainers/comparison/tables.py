"""Tables of a comparison in Markdown. They claim nothing where an interval holds 0."""

from trainers.comparison import grid, results, statistics

_NO_CLAIM = "no claim"
_ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def report(found):
    """All tables.

    Args:
        found: what `results.gather` gives.

    Returns:
        Markdown.
    """
    parts = [f"# {found['suite']}", _status(found)]
    # Ablations may be shorter; each group is compared where all of its cells and its baselines are.
    for group, title in ((grid.MAIN, "The attentions"), (grid.ABLATIONS, "Ablations")):
        names = [name for name, arm in found["arms"].items() if arm["group"] == group]
        if names:
            parts.append(_group(found, names, title, group))
    parts += [_floors(found), _costs(found), _layers(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _group(found, names, title, group):
    bases = [*grid.BASELINES, *([grid.ATTENTIVE] if group == grid.ABLATIONS else [])]
    bases = [name for name in bases if name in found["arms"]]
    shown = [*dict.fromkeys([*(bases if group == grid.ABLATIONS else ()), *names])]
    with_curves = [name for name in shown if any(cell["curve"] for cell in _cells(found, name))]
    parts = [f"## {title}"]
    step = last_common_step(found, with_curves)
    if step is None:
        return "\n\n".join([*parts, "There is no step yet at which all of these have been scored."])
    images = next(p["images"] for c in found["cells"] for p in c["curve"] if p["step"] == step)
    at = values_at(found, with_curves, lambda curve, name: statistics.at_step(curve, name, step))
    parts += compared(at, with_curves, bases, f"At equal steps: step {step:,}, {images:,} {found['seen']}")
    seconds = last_common_seconds(found, with_curves, step)
    if seconds is not None:
        at = values_at(found, with_curves, lambda curve, name: statistics.at_seconds(curve, name, seconds))
        told = f"At equal seconds of training: {seconds:,.0f} s of each cell's own median speed"
        parts += compared(at, with_curves, bases, told)
    return "\n\n".join(parts)


def last_common_step(found, names):
    """The last step at which each arm has a cell with scores, None where there is none. Cells on their way may lack it:
    few seeds at the end tell more than all of them at the beginning."""
    steps = [{point["step"] for cell in _cells(found, name) for point in cell["curve"]} for name in names]
    common = set.intersection(*steps) if steps else set()
    return max(common) if common else None


def last_common_seconds(found, names, step):
    """The longest time of training to which all cells that have come to a step have come, None where there is none."""
    spans = [
        [point["seconds"] for point in cell["curve"] if "seconds" in point]
        for name in names
        for cell in _cells(found, name)
        if any(point["step"] == step for point in cell["curve"])
    ]
    if not spans or not all(spans):
        return None
    end = min(span[-1] for span in spans)
    return end if end >= max(span[0] for span in spans) else None


def values_at(found, names, look):
    """`{score: {arm: {seed: value}}}`; `look`: function from a curve and the name of a score to its value or None."""
    result = {}
    for score in results.SCORES:
        for name in names:
            for cell in _cells(found, name):
                value = look(cell["curve"], score)
                if value is not None:
                    result.setdefault(score, {}).setdefault(name, {})[cell["seed"]] = value
    return result


def compared(at, names, bases, title):
    """Parts of a report: means over seeds and differences to each of `bases`; `at` is what `values_at` gives."""
    header = ["arm", "seeds", *(f"{score} {_ARROWS[results.SCORES[score]]}".strip() for score in at)]
    rows = []
    for name in names:
        count = max((len(at[score].get(name, {})) for score in at), default=0)
        rows.append([name, str(count), *(_mean(at[score].get(name, {})) for score in at)])
    parts = [
        f"### {title}",
        "Mean ± standard deviation over seeds; of ↑ more is better, of ↓ less.",
        table(header, rows),
    ]
    for base in bases:
        others = [name for name in names if name != base]
        if base not in names or not others:
            continue
        rows = [[name, *(verdict(score, at[score].get(name), at[score].get(base)) for score in at)] for name in others]
        count = sum(cell != "" for row in rows for cell in row[1:])
        parts += [
            f"Difference to `{base}`, seed by seed, with its 95 % interval (paired t over seeds). Of {count} such "
            f"intervals {count / 20:.1f} would leave 0 out by chance alone.",
            table(["arm minus " + base, *at], rows),
        ]
    return parts


def verdict(score, values, others):
    """A difference with its interval, and in words what it says."""
    difference = statistics.paired_difference(values or {}, others or {})
    if difference is None:
        return ""
    if difference.low is None:
        return f"{_number(difference.mean, True)}, one seed: {_NO_CLAIM}"
    text = f"{_number(difference.mean, True)} [{_number(difference.low, True)}, {_number(difference.high, True)}]"
    if not difference.is_clear:
        return f"{text} {_NO_CLAIM}"
    direction = "higher" if difference.mean > 0 else "lower"
    better = results.SCORES[score]
    word = direction if better is None else "better" if direction == better else "worse"
    return f"{text} **{word}**"


def _status(found):
    cells = found["cells"]
    done = sum(cell["is_done"] for cell in cells)
    plan = found["plan"]
    text = (
        f"{done} of {len(cells)} cells are done: {plan['images']:,} {found['seen']} each, "
        f"{plan['ablation_images']:,} of an ablation, before rounding to whole evaluations."
    )
    rows = [[f"`{name}`", arm["meaning"]] for name, arm in found["arms"].items()]
    return f"{text}\n\n{table(['arm', 'what it is'], rows)}"


def _floors(found):
    if not found["floors"]:
        return ""
    rows = [[name, _number(value)] for name, value in found["floors"].items()]
    return "## Real images\n\n" + table(["score", "value"], rows)


def _costs(found):
    rows = []
    for name in found["arms"]:
        cells = [cell for cell in _cells(found, name) if cell["images_per_second"]]
        if cells:
            parameters = next((cell["parameters"] for cell in cells if cell["parameters"]), {})
            rows.append(
                [
                    name,
                    _mean({cell["seed"]: cell["images_per_second"] for cell in cells}),
                    *(f"{parameters[network]:,}" if network in parameters else "" for network in _NETWORKS),
                    _mean({cell["seed"]: cell["peak_memory_mb"] for cell in cells if cell["peak_memory_mb"]}),
                    _mean({c["seed"]: c["wall_seconds"] / 3600 for c in cells if c["wall_seconds"]}),
                ]
            )
    header = ["arm", "images/s", "parameters of G", "of D", "peak memory, MB", "hours with evaluations"]
    return "## Cost\n\n" + table(header, rows) if rows else ""


_NETWORKS = ("generator", "discriminator")


def _layers(found):
    rows = []
    for name in found["arms"]:
        cells = _cells(found, name)
        for layer in dict.fromkeys(layer for cell in cells for layer in cell["layers"]):
            seen = {cell["seed"]: cell["layers"][layer] for cell in cells if layer in cell["layers"]}
            columns = [{seed: values[key] for seed, values in seen.items() if key in values} for key in _STATISTICS]
            rows.append([name, layer, *map(_mean, columns)])
    if not rows:
        return ""
    told = (
        "At the last summary of each cell. Entropy is over log n, 1 tells nothing; entities in use are a share; "
        "deviation is that inside regions over that of the map; gain is |rho| over the former."
    )
    header = ["arm", "layer", "rho", "entropy", "entities in use", "deviation inside", "gain"]
    return f"## Layers\n\n{told}\n\n{table(header, rows)}"


_STATISTICS = results.LAYER_STATISTICS[:5]


def table(header, rows):
    """A Markdown table of texts."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def _cells(found, name):
    return [cell for cell in found["cells"] if cell["arm"] == name]


def _mean(values):
    if not values:
        return ""
    summary = statistics.summary(list(values.values()))
    return _number(summary.mean) + (f" ± {_number(summary.deviation)}" if summary.deviation is not None else "")


def _number(value, signed=False):
    sign, size = "+" if signed else "", abs(value)
    if size >= 100:
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.1f}" if size >= 10 else f"{value:{sign}.3f}"
