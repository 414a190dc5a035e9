"""The names of all scalars of a run, what TensorBoard tells about each, and the charts of its page Custom Scalars.

TensorBoard sorts by name; the numbers put the groups into the order in which one reads them.
"""

LOSSES, SCORES, ATTENTION = "1_losses", "2_scores", "3_attention"
GRADIENTS, SPEED, LEARNING_RATE, SPREAD = "4_gradients", "5_speed", "6_learning_rate", "7_spread"

_NORM, _SQUARE = "_gradient_norm", "_square"
_LOW, _HIGH = "_low", "_high"
_FILLS = "(_mean_fill|_diffusion|_biharmonic|_telea|_navier_stokes)?"

DESCRIPTIONS = {
    "generator_loss": "Loss of the generator. With hinge: minus the mean logit of its images.",
    "discriminator_loss": "Loss of the discriminator. With hinge: 2 tells nothing apart, 0 always wins.",
    "orthogonality_loss": "Penalties of all Attentive Normalization layers, with their weight.",
    "discriminator_real": "Mean logit of real images.",
    "discriminator_fake": "Mean logit of generated images.",
    "critic_real": "Mean score of real images, over the critics.",
    "critic_fake": "Mean score of completed images, over the critics.",
    "critic_loss": "Wasserstein loss of the critics, without penalties; with the sign turned, a distance.",
    "gradient_penalty": "Gradient penalty of the critics, before its weight; near 0 the slopes are near 1.",
    "generator_adversarial": "Minus the critics' scores of completed images.",
    "hole_l1": "L1 in the hole, discounted, of both stages, of pixels in [-1, 1].",
    "known_l1": "L1 outside of the hole, of both stages.",
    "mask_coverage": "Mean share of an image that is missing.",
    "mask_coverage_least": "Least share of an image that is missing, of a batch.",
    "mask_coverage_most": "Largest share of an image that is missing, of a batch.",
    "images_per_second": "Real images of all replicas over the time of the steps.",
    "share_outside_steps": "Share of the time since the last summary that went into anything but steps.",
    "memory_gib": "Most memory that the process has had so far, in GiB.",
    "device_memory_gib": "Most memory of an accelerator so far, in GiB.",
}
SCORE_DESCRIPTION = "Of the evaluation; the page Evaluation of the documentation explains it."


def of_losses(means):
    """What the means of a trainer's metrics are shown as.

    Args:
        means: floats by name. Of `<name>_square` only the ends of the spread around `<name>` are shown, one deviation
            below and above.

    Returns:
        Floats and descriptions by tag.
    """
    found = {}
    for name, value in means.items():
        if name.endswith(_SQUARE):
            name = name[: -len(_SQUARE)]
            deviation = max(value - means[name] ** 2, 0.0) ** 0.5
            for suffix, sign in ((_LOW, -1), (_HIGH, 1)):
                told = f"{name} {'plus' if sign > 0 else 'minus'} the deviation over images."
                found[f"{SPREAD}/{name}{suffix}"] = means[name] + sign * deviation, told
        elif name.endswith(_NORM):
            network = name[: -len(_NORM)]
            found[f"{GRADIENTS}/{network}"] = value, f"Norm of the gradients of the {network}."
        else:
            found[f"{LOSSES}/{name}"] = value, DESCRIPTIONS.get(name)
    return found


def of_speed(values):
    """Floats and descriptions by tag, from floats by name."""
    return {f"{SPEED}/{name}": (value, DESCRIPTIONS[name]) for name, value in values.items()}


def of_learning_rates(rates):
    """Floats and descriptions by tag, from floats by network."""
    return {f"{LEARNING_RATE}/{name}": (rate, f"Learning rate of the {name} now.") for name, rate in rates.items()}


def charts(application):
    """The page Custom Scalars, as `keras_an_tensorboard.summaries.charts` takes it.

    Args:
        application: "gan" or "inpainting".
    """
    other = "discriminator" if application == "gan" else "critic"
    logits = [f"{other}_{kind}" for kind in ("real", "fake")]
    spreads = {f"{LOSSES}/{one}": (f"{SPREAD}/{one}{_LOW}", f"{SPREAD}/{one}{_HIGH}") for one in logits}
    losses = {
        f"Generator against {other}": [f"^{LOSSES}/generator_loss$", f"^{LOSSES}/{other}_loss$"],
        "Real against fake logits, with their spread": spreads,
        "Real against fake logits": [f"^{LOSSES}/{one}$" for one in logits],
    }
    if application == "gan":
        scores = {
            "Fréchet distance and its floor": [f"^{SCORES}/(frechet_distance|frechet_distance_floor|fid)$"],
            "Label accuracy, and that of real images": [f"^{SCORES}/(label_accuracy|classifier_test_accuracy)$"],
            "Precision, recall and spread": [f"^{SCORES}/(precision|recall|spread_ratio)$"],
        }
    else:
        losses["L1"] = [f"^{LOSSES}/(hole|known)_l1$"]
        scores = {
            "L1 in the hole, and that of fills": [f"^{SCORES}/.*/l1_hole{_FILLS}$"],
            "PSNR in the hole, and that of fills": [f"^{SCORES}/.*/psnr_hole{_FILLS}$"],
        }
    statistics = {
        "Entropy over log n: 1 tells nothing": "layout_entropy",
        "Share of the entities in use": "entities_in_use",
        "Deviation inside regions over that of the map": "region_deviation",
        "rho": "rho",
        "Gain: |rho| over the deviation inside regions": "gain",
    }
    return {
        "1. Does it train?": losses,
        "2. Is it any good? Scores and their floors": scores,
        "3. Are the layers alive?": {name: [f"^{ATTENTION}/.*/{tag}$"] for name, tag in statistics.items()},
        "4. Gradients and rates": {"Norms of gradients": [f"^{GRADIENTS}/"], "Learning rates": [f"^{LEARNING_RATE}/"]},
    }
