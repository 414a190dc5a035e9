"""A residual classifier for natural pictures, whose features tell more than those of the small one."""

from keras_an.backend import keras

BATCH_SIZE = 128
_CHANNELS = 16
_LEARNING_RATE, _WARM_UP = 0.2, 0.2  # the peak, and the share of the steps before it


def build_residual_classifier(resolution, image_channels, num_classes):
    """Eight 3x3 convolutions, two pairs of them residual, of the shape that DAWNBench's fastest entries have.

    It takes a step of up to an eighth of the side and, where data are mirrored, mirrored pictures in training.

    Args:
        resolution: side of the images, at least 16.
        image_channels: integer.
        num_classes: integer.

    Returns:
        `keras.Model` from images to `[features, logits]`, float32 `(batch, 128)` and `(batch, num_classes)`.

    References:
        Page, "How to Train Your ResNet", 2018.
    """
    image = keras.Input((resolution, resolution, image_channels))
    x = keras.layers.RandomTranslation(0.125, 0.125, fill_mode="reflect", interpolation="nearest", dtype="float32")(
        image
    )
    x = _conv(x, _CHANNELS)
    for factor, is_residual in ((2, True), (4, False), (8, True)):
        x = keras.layers.MaxPooling2D(2, dtype="float32")(_conv(x, factor * _CHANNELS))
        if is_residual:
            branch = _conv(_conv(x, factor * _CHANNELS), factor * _CHANNELS)
            x = keras.layers.Add(dtype="float32")([x, branch])
    features = keras.layers.GlobalMaxPooling2D(dtype="float32", name="features")(x)
    # Of a maximum over positions the logits would be large from the start.
    logits = keras.layers.Dense(num_classes, use_bias=False, dtype="float32", name="dense")(features)
    logits = keras.layers.Rescaling(0.125, dtype="float32", name="logits")(logits)
    return keras.Model(image, [features, logits], name="residual_classifier")


def make_schedule(num_steps):
    """A rate that rises in a line and falls along a cosine, over `num_steps` steps."""
    warm_up = max(int(_WARM_UP * num_steps), 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(num_steps - warm_up, 1), warmup_target=_LEARNING_RATE, warmup_steps=warm_up
    )


def make_optimizer(num_steps):
    """Momentum with the rate of `make_schedule`, and weight decay."""
    # Keras takes rate times decay from a weight, once; within the gradient the same decay would count ten times.
    optimizer = keras.optimizers.SGD(make_schedule(num_steps), momentum=0.9, nesterov=True, weight_decay=5e-3)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta"])
    return optimizer


def _conv(x, filters):
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype="float32")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, dtype="float32")(x)
    return keras.layers.ReLU(dtype="float32")(x)
