"""Scores of generated images by a classifier that was trained on the real ones."""

import os

import numpy as np
import tensorflow as tf
from absl import logging

from keras_an.backend import keras
from trainers import input_pipelines, summaries, tfgan

_FIXED_INPUTS = 50  # images on which the attentive layers are watched
_SAMPLES_PER_CLASS = 10
_LAYOUT_ROWS = 10


class GanEvaluator:
    """Scores a class-conditional generator with a small classifier of the real training images.

    The classifier is trained on first use and kept in `model_dir`. Its distance is a Fréchet distance in the
    features of that classifier and of no other: it is not an FID, which means Inception's features.

    Args:
        params: `schema.ExperimentConfig`.
        model_dir: the run's folder.
        generator: `keras.Model` from `[z, label]` to images in [-1, 1], the averaged one.
        discriminator: `keras.Model` from `[image, label]` to logits.
    """

    def __init__(self, params, model_dir, generator, discriminator):
        self._generator = generator
        self._task = params.task
        self._seed = params.runtime.seed
        resolution = params.task.model.resolution
        self._train = input_pipelines.load_digits(params.task.train_data.split, resolution)
        self._test = input_pipelines.load_digits(params.task.validation_data.split, resolution)
        self._path = os.path.join(model_dir, "classifier.weights.h5")
        self._classifier = None
        self._real = None
        self._probes = {
            "generator": summaries.AttentionProbe(generator, self._latents(_FIXED_INPUTS)),
            "discriminator": summaries.AttentionProbe(
                discriminator, [tf.constant(part[:_FIXED_INPUTS]) for part in self._test]
            ),
        }

    def scalars(self):
        """Statistics of every attentive layer on fixed latents and fixed test images, floats by name."""
        result = {}
        for name, probe in self._probes.items():
            result.update(probe.scalars(name))
        return result

    def pictures(self):
        """Pictures of fixed latents: `samples`, a row a class, and `layouts`, a row an image; uint8 arrays by name."""
        num_classes = self._task.model.num_classes
        images, _ = self.sample(_SAMPLES_PER_CLASS * num_classes)
        by_class = images.reshape(_SAMPLES_PER_CLASS, num_classes, *images.shape[1:]).swapaxes(0, 1)
        by_class = by_class.reshape(-1, *images.shape[1:])
        pictures = {"samples": summaries.image_grid(summaries.to_uint8(by_class), _SAMPLES_PER_CLASS)}
        seen = self._probes["generator"]()
        for index, layouts in enumerate(seen["layouts"]):
            name = "layouts" if index == 0 else f"layouts_{index + 1}"
            pictures[name] = summaries.layout_grid(seen["outputs"][:_LAYOUT_ROWS], layouts[:_LAYOUT_ROWS])
        return pictures

    def evaluate(self):
        """Scores the generator.

        Returns:
            Floats by name. `label_accuracy`: share of generated images that the classifier gives their label.
            `classifier_test_accuracy`: its accuracy on the real test images. `frechet_distance`: between generated
            and real test images. `frechet_distance_floor`: between real training and test images. `spread_ratio`: how
            far images of a class lie from their mean, generated over real.
        """
        if self._classifier is None:
            self._classifier = self._load_or_train()
            self._real = self._real_scores()
        images, labels = self.sample(self._task.evaluation.num_samples)
        features, logits = self._predict(images)
        return {
            "label_accuracy": _accuracy(logits, labels),
            "classifier_test_accuracy": self._real["accuracy"],
            "frechet_distance": frechet_distance(self._real["features"], features),
            "frechet_distance_floor": self._real["floor"],
            "spread_ratio": class_spread(images, labels) / class_spread(*self._test),
        }

    def sample(self, num_samples):
        """Generates images with labels in turn, from noise that depends on the run's seed alone.

        Args:
            num_samples: integer.

        Returns:
            Images float32 `(num_samples, height, width, channels)` in [-1, 1] and labels int32 `(num_samples,)`.
        """
        z, labels = self._latents(num_samples)
        size = self._task.validation_data.global_batch_size
        # Every batch is full, so that one trace serves them all.
        padding = -num_samples % size
        z, padded = tf.pad(z, [(0, padding), (0, 0)]), tf.pad(labels, [(0, padding)])
        starts = range(0, num_samples, size)
        images = [self._generate(z[i : i + size], padded[i : i + size]).numpy() for i in starts]
        return np.concatenate(images)[:num_samples], labels.numpy()

    @tf.function
    def _generate(self, z, labels):
        return self._generator([z, labels], training=False)

    def _latents(self, count):
        model = self._task.model
        z = tf.random.stateless_normal((count, model.latent_dim), (self._seed, 0), alg="philox")
        return z, tf.range(count) % model.num_classes

    def _real_scores(self):
        features, logits = self._predict(self._test[0])
        train_features, _ = self._predict(self._train[0])
        return {
            "features": features,
            "accuracy": _accuracy(logits, self._test[1]),
            "floor": frechet_distance(features, train_features),
        }

    def _predict(self, images):
        features, logits = self._classifier.predict(images, batch_size=256, verbose=0)
        return features, logits

    def _load_or_train(self):
        model = self._task.model
        classifier = build_classifier(model.resolution, model.image_channels, model.num_classes)
        if os.path.exists(self._path):
            classifier.load_weights(self._path)
            return classifier
        epochs = self._task.evaluation.classifier_epochs
        logging.info(
            "Training the classifier that scores the samples: %d epochs of %d images", epochs, len(self._train[1])
        )
        trainable = keras.Model(classifier.inputs, classifier.outputs[1])
        trainable.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        trainable.fit(*self._train, batch_size=64, epochs=epochs, verbose=0)
        partial = self._path.replace(".weights.h5", ".partial.weights.h5")
        classifier.save_weights(partial)
        os.replace(partial, self._path)  # A run that dies leaves no half-written file under the final name.
        return classifier


def build_classifier(resolution, image_channels, num_classes):
    """A small convolutional classifier that also returns its features.

    Args:
        resolution: side of the images.
        image_channels: integer.
        num_classes: integer.

    Returns:
        `keras.Model` from images to `[features, logits]`, float32 `(batch, 64)` and `(batch, num_classes)`.
    """
    image = keras.Input((resolution, resolution, image_channels))
    x = keras.layers.RandomTranslation(0.06, 0.06, fill_mode="nearest", dtype="float32")(image)
    for filters in (16, 32, 64):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", dtype="float32")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, dtype="float32")(x)
        x = keras.layers.ReLU(dtype="float32")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.3, dtype="float32")(x)
    features = keras.layers.Dense(64, activation="relu", dtype="float32", name="features")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(features)
    return keras.Model(image, [features, logits], name="classifier")


def frechet_distance(real, generated):
    """Fréchet distance between Gaussians fitted to two sets of features, by TF-GAN.

    Args:
        real: `(images, features)`.
        generated: `(images, features)`.

    Returns:
        float, at least 0 but for rounding.
    """
    metrics = tfgan.classifier_metrics()
    real, generated = tf.cast(real, tf.float64), tf.cast(generated, tf.float64)
    return float(metrics.frechet_classifier_distance_from_activations(real, generated))


def class_spread(images, labels):
    """Root mean square distance of images from the mean of their class, averaged over the classes.

    Args:
        images: `(images, height, width, channels)`.
        labels: integers `(images,)`.

    Returns:
        float, in units of the pixels.
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    variances = [flat[labels == label].var(axis=0, ddof=1).sum() for label in np.unique(labels)]
    return float(np.mean(np.sqrt(variances)))


def _accuracy(logits, labels):
    return float(np.mean(np.argmax(logits, axis=-1) == labels))
