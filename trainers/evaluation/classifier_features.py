"""Features of a small classifier of the real training images, for data that Inception knows nothing about."""

import dataclasses
import hashlib
import os
import tempfile

import tensorflow as tf
from absl import logging

from keras_an.backend import keras
from trainers.configs import folder_names
from trainers.data import classes, input_pipelines
from trainers.evaluation import residual_classifier, score_names
from trainers.evaluation.classifier_training import ClassifierTraining

WEIGHTS_FILE = "classifier.weights.h5"
_BATCH_SIZE = 64


class ClassifierFeatures:
    """The classifier that is kept in a folder, the run's or one that runs share.

    It is trained on first use, from where that was stopped.

    A distance in its features is a distance in those of this classifier and of no other; it is no FID.

    Args:
        task: `schema.TaskConfig`.
        folder: of the weights.
    """

    kind = "classifier"
    names = score_names.CLASSIFIER_NAMES
    resizer = "none"

    def __init__(self, task, folder):
        self._task = task
        self._path = os.path.join(folder, WEIGHTS_FILE)
        self._model = None

    @property
    def is_trained(self):
        """Whether the weights are there already."""
        return os.path.exists(self._path)

    @property
    def digest(self):
        """SHA-256 of the weights' file, which must be there."""
        with open(self._path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def prepare(self):
        """Loads the weights, or trains the classifier and writes them."""
        if self._model is not None:
            return
        model = self._task.model
        self._check_folder()
        build = residual_classifier.build_residual_classifier if self._is_residual else build_classifier
        classifier = build(model.resolution, model.image_channels, model.num_classes)
        if self.is_trained:
            classifier.load_weights(self._path)
        else:
            training = self._train(classifier)
            # A run that dies leaves no half-written file under the final name.
            partial = self._path.replace(".weights.h5", f".{os.getpid()}.partial.weights.h5")
            classifier.save_weights(partial)
            if self.is_trained:  # by an evaluation beside this one, which may have measured by it
                os.remove(partial)
                classifier.load_weights(self._path)
            else:
                os.replace(partial, self._path)
            training.remove()
        self._model = classifier

    def __call__(self, images):
        """Features and logits, after `prepare`.

        Args:
            images: float32 `(batch, height, width, channels)` in [-1, 1].

        Returns:
            float32 `(batch, 64)`, or `(batch, 128)` of the residual classifier, and `(batch, num_classes)`.
        """
        features, logits = self._model(images, training=False)
        return features, logits

    def _check_folder(self):
        """Makes the folder, and sees that weights can be written there, before they are trained."""
        folder = os.path.dirname(self._path)
        folder_names.check("task.evaluation.classifier_dir", folder)
        try:
            os.makedirs(folder, exist_ok=True)
            if not self.is_trained:
                tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(
                f"The classifier that scores the samples cannot be kept in {folder}: {error.strerror}. "
                "Set task.evaluation.classifier_dir to a folder that can be written, or to one that holds it."
            ) from error

    @property
    def _is_residual(self):
        return self._task.evaluation.classifier == "residual"

    def _train(self, classifier):
        model, data, epochs = self._task.model, self._task.train_data, self._task.evaluation.classifier_epochs
        source = input_pipelines.open_source(data, model.resolution, model.num_classes)
        classes.check_names(os.path.dirname(self._path), source.class_names, "task.train_data")
        num_images = source.num_images
        logging.info("Training the classifier that scores the samples: %d epochs of %d images", epochs, num_images)
        batch_size = min(residual_classifier.BATCH_SIZE if self._is_residual else _BATCH_SIZE, num_images)
        steps = -(-num_images // batch_size)
        trainable = keras.Model(classifier.inputs, classifier.outputs[1])
        optimizer = (
            residual_classifier.make_optimizer(steps * epochs) if self._is_residual else keras.optimizers.Adam(2e-3)
        )
        trainable.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        training = ClassifierTraining(trainable, os.path.dirname(self._path), steps, epochs)

        def make_batches(start):
            return input_pipelines.training_dataset(
                tf.distribute.get_strategy(),
                dataclasses.replace(data, global_batch_size=batch_size),
                model.resolution,
                0,
                start,
                image_channels=model.image_channels,
                num_classes=model.num_classes,
            ).map(lambda batch: (batch["image"], batch["label"]))

        with input_pipelines.value_errors(data):
            training.run(make_batches)
        return training


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
