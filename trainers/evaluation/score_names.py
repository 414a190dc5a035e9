"""What scores are called, and how they are printed."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ScoreNames:
    """What the scores of a network's features are called."""

    frechet: str
    kernel: str
    classifier: str
    intra_class: str


INCEPTION_NAMES = ScoreNames("fid", "kid", "inception_score", "intra_fid")
CLASSIFIER_NAMES = ScoreNames("frechet_distance", "kernel_distance", "classifier_score", "intra_frechet_distance")


def table(scores, num_samples, seed):
    """Scores as lines of text, each with the number of generated images and the seed of their noise.

    Args:
        scores: floats by name, as `trainers.evaluation.gan_evaluator.GanEvaluator.evaluate` gives them.
        num_samples: integer.
        seed: integer.

    Returns:
        string of several lines, the first of which names the columns. No score is left out: what this module does not
        know has no explanation.
    """
    rows = [("score", "value", "samples", "seed", "")]
    for name, value in scores.items():
        made_of = ("-", "-") if name in _OF_REAL_IMAGES else (str(num_samples), str(seed))
        rows.append((name, f"{value:.4f}", *made_of, _MEANINGS.get(name, "")))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = []
    for name, *numbers, meaning in rows:
        cells = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:])), meaning]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


_OF_REAL_IMAGES = (
    "classifier_test_accuracy",
    "discriminator_slope",
    "frechet_distance_floor",
    "pair_agreement_real",
    "pair_agreement_shuffled",
)
_MEANINGS = {
    "label_accuracy": "share to which the classifier gives their label",
    "classifier_test_accuracy": "the same of the real test images",
    "frechet_distance": "to the real test images, in the classifier's features; not an FID",
    "frechet_distance_floor": "the same of the real training images",
    "kernel_distance": "as KID, but in the classifier's features",
    "classifier_score": "as the Inception score, but by the classifier",
    "intra_frechet_distance": "mean of the distances within classes; not an intra-FID",
    "spread_ratio": "spread within a class over that of real images",
    "fid": "to the real test images, in Inception's features",
    "kid": "to the real test images, in Inception's features",
    "intra_fid": "mean of the distances within classes",
    "pair_agreement": "share whose two objects have one colour and one direction",
    "pair_objects_found": "share with an object in each half; others do not agree",
    "pair_colour_agreement": "share whose two objects have one colour",
    "pair_orientation_agreement": "share whose two objects have one direction",
    "pair_agreement_real": "the same of the real test images",
    "pair_agreement_shuffled": "of real halves that do not belong together",
    "discriminator_slope": "norm of the gradient of the discriminator's logit by a real image, the median",
    "precision": "share among the real test images",
    "recall": "share of the real test images among them",
}
