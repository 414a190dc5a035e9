"""Scores of a class-conditional generator against the real images, and pictures of what it makes.

The file is long because all scores of a generator, and what they need of the real images, meet here.
"""

import dataclasses
import os

import numpy as np
import tensorflow as tf
from absl import logging

from keras_an_tensorboard.pictures import layout_picture
from trainers.data import input_pipelines, picture_files
from trainers.evaluation import contents, pair_agreement, real_statistics, scores
from trainers.evaluation.classifier_features import ClassifierFeatures
from trainers.evaluation.inception_features import InceptionFeatures
from trainers.evaluation.score_names import table
from trainers.monitoring import summaries
from trainers.monitoring.pictures import image_grid, to_uint8

_FIXED_INPUTS = 50  # images on which the attentive layers are watched
_SAMPLES_PER_CLASS = 10
_MOST_CLASSES = 20  # in a picture
_PAIRS_AT_ONCE = 1000  # among which halves are shuffled
_LEAST_IMAGES = 4  # of which precision and recall take the third neighbour
# Of a data set: what plays no part where all of its images are seen once, in order.
_INDIFFERENT = ("global_batch_size", "class_names", "random_flip", "cache", "shuffle_buffer_size")


class GanEvaluator:
    """Scores a class-conditional generator, in Inception's features or in those of a classifier of the real images.

    Which, `task.evaluation.inception_path` says; the scores are called FID, KID and Inception score in the former
    alone. The real images are those of `task.validation_data`; what is known of them is kept in
    `real_statistics_<features>.npz` in the run's folder or in `task.evaluation.statistics_dir`. Each replica generates
    its share of the images; which images these are does not depend on the number of replicas. Where the images are not
    there and statistics of them are, those will do without a discriminator.

    Args:
        params: `schema.ExperimentConfig`.
        model_dir: the run's folder.
        generator: `keras.Model` from `[z, label]` to images in [-1, 1], the averaged one.
        discriminator: `keras.Model` from `[image, label]` to logits; None where `probes`, `pictures` and the
            discriminator's own score are not used.
        strategy: the `tf.distribute.Strategy` of the generator, or None for TensorFlow's default.
        seed: integer, of the noise; None is `runtime.seed`.

    Raises:
        ValueError: where the data or Inception are not as they must be, or the statistics are of something else.
    """

    def __init__(self, params, model_dir, generator, discriminator=None, strategy=None, seed=None):
        self._generator = generator
        self._task = params.task
        self._strategy = strategy or tf.distribute.get_strategy()
        self._seed = params.runtime.seed if seed is None else seed
        replicas = self._strategy.num_replicas_in_sync
        self._batch_size = -(-params.task.validation_data.global_batch_size // replicas) * replicas
        evaluation = params.task.evaluation
        if evaluation.inception_path:
            # Outside the strategy's scope: a SavedModel's functions of mirrored variables cannot be called on replicas.
            self._extractor = InceptionFeatures(evaluation.inception_path)
        else:
            self._extractor = ClassifierFeatures(params.task, evaluation.classifier_dir or model_dir)
        folder = evaluation.statistics_dir or model_dir
        self._statistics_path = os.path.join(folder, f"real_statistics_{self._extractor.kind}.npz")
        self._data = {"validation_data": params.task.validation_data}
        if self._extractor.kind == "classifier":
            self._data["train_data"] = params.task.train_data  # of the floor
        self._contents = contents.describe(
            self._data, self._open, self._statistics_path, model_dir, must_be_there=discriminator is not None
        )
        if self._contents["num_images"] < _LEAST_IMAGES:
            raise ValueError(
                f"`task.validation_data` must hold at least {_LEAST_IMAGES} images. "
                f"Received: {self._contents['num_images']}"
            )
        # Refused now rather than after thousands of steps. A classifier that is not there yet has no digest.
        if os.path.exists(self._statistics_path) and (evaluation.inception_path or self._extractor.is_trained):
            real_statistics.check(self._statistics_path, self.description())
        if evaluation.intra_class:
            num_classes = params.task.model.num_classes
            contents.check_classes(self._data["validation_data"], self._open, self._statistics_path, num_classes)
        self._real = None
        self._probes = {}
        self._judged = None
        if discriminator is not None:
            inputs = self._latents(_FIXED_INPUTS)
            names = self._open(params.task.validation_data).class_names

            def named(labels):
                return [picture_files.shown(names[label]) if names else str(label) for label in labels.numpy()]

            self._probes = {"generator": summaries.AttentionProbe(generator, inputs, labels=named(inputs[1]))}
            # Of a folder evenly, whose images lie class by class; records would have to be read to the last.
            data = params.task.validation_data
            count = _FIXED_INPUTS if data.dataset == "folder" else None
            batch = next(self._batches(data, _FIXED_INPUTS, count), None)
            if batch is None:
                logging.warning("Without statistics of the discriminator: no validation image can be used")
                return
            inputs = [batch["image"], batch["label"]]
            self._probes["discriminator"] = summaries.AttentionProbe(
                discriminator, inputs, batch["image"], named(batch["label"])
            )
            self._judged = (discriminator, *inputs)

    @property
    def made_of(self):
        """What the scores are made of, for logs."""
        return f"{self._task.evaluation.num_samples} samples, seed {self._seed}"

    def table(self, scores):
        """The scores of `evaluate` as lines of text."""
        return table(scores, self._task.evaluation.num_samples, self._seed)

    @property
    def probes(self):
        """`AttentionProbe` by network, on fixed latents and fixed test images."""
        return self._probes

    def pictures(self):
        """Pictures of fixed latents: `samples`, a row a class, and `layouts`, a row an image; uint8 arrays by name."""
        num_classes = min(self._task.model.num_classes, _MOST_CLASSES)
        z, labels = self._latents(_SAMPLES_PER_CLASS * num_classes, num_classes)
        images = np.concatenate([images for images, _ in self._generated(z, labels)])
        by_class = images.reshape(_SAMPLES_PER_CLASS, num_classes, *images.shape[1:]).swapaxes(0, 1)
        by_class = by_class.reshape(-1, *images.shape[1:])
        pictures = {"samples": image_grid(to_uint8(by_class), _SAMPLES_PER_CLASS)}
        for index, view in enumerate(self._probes["generator"].views("generator")):
            name = "layouts" if index == 0 else f"layouts_{index + 1}"
            pictures[name] = layout_picture(view.images, view.layout, view.shares())
        return pictures

    def description(self):
        """What the statistics of the real images are made of and by, JSON values by name.

        With the classifier's features, call after the first `evaluate`.
        """
        model, resizer = self._task.model, self._extractor.resizer
        result = {
            "features": self._extractor.kind,
            "weights_sha256": self._extractor.digest,
            "resizer": f"upright, center crop, bicubic with antialias to {model.resolution}; then {resizer}",
            "image_channels": model.image_channels,
            **self._contents,
        }
        for group, data in self._data.items():
            for name, value in dataclasses.asdict(data).items():
                if name not in _INDIFFERENT:
                    result[f"{group}.{name}"] = os.path.abspath(value) if name == "path" and value else value
        return result

    def prepare(self):
        """Makes what is needed of the real images, the classifier first, or loads what is there; returns its scores.

        Raises:
            ValueError: as `evaluate`.
        """
        if self._real is None:
            self._real = self._real_statistics()
        return self._real.scores

    def _pair_scores(self, **options):
        is_pairs = self._task.validation_data.dataset == "pairs"
        return pair_agreement.PairScores(**options) if is_pairs else None

    def evaluate(self):
        """Scores the generator.

        Returns:
            Floats by name, without those that cannot be computed. With Inception's features `fid`, `kid` and
            `inception_score`; with the classifier's `frechet_distance`, `kernel_distance` and `classifier_score`. With
            both `precision` and `recall`, and where `task.evaluation.intra_class` asks for it, `intra_fid` or
            `intra_frechet_distance`. With the classifier's also `label_accuracy`: share of generated images that it
            gives their label; `classifier_test_accuracy`: its accuracy on the real test images;
            `frechet_distance_floor`: between real training and test images; `spread_ratio`: how far images of a class
            lie from their mean, generated over real. Of the data set "pairs" also what
            `trainers.evaluation.pair_agreement` measures. With a discriminator also `discriminator_slope`: the norm of
            the gradient of its logit by the image, the median of some real images.

        Raises:
            ValueError: where the statistics of the real images are of something else.
        """
        self.prepare()
        spread, parts, labels, pairs = scores.ClassSpread(), [], [], self._pair_scores()
        for images, these in self.sample_batches(self._task.evaluation.num_samples):
            parts.append(self._features(images))
            labels.append(these)
            if self._extractor.kind == "classifier":
                spread.add(images, these)
            if pairs:
                pairs.add(to_uint8(images), these)
        features, logits = (np.concatenate(part) for part in zip(*parts))
        labels = np.concatenate(labels)
        result = scores.evaluate(
            self._extractor.names,
            (self._real.features, self._real.labels),
            (features, logits, labels),
            self._task.evaluation.intra_class,
        )
        if self._extractor.kind == "classifier":
            real = {name: value for name, value in self._real.scores.items() if name not in pair_agreement.REAL}
            spreads = spread.result(), real.pop("class_spread")
            result = {
                **scores.computed(("label_accuracy",), scores.accuracy, logits, labels),
                **result,
                **scores.computed(("spread_ratio",), scores.spread_ratio, *spreads),
                **real,
            }
        if pairs:
            result.update(pairs.of_generated())
            result.update({name: self._real.scores[name] for name in pair_agreement.REAL})
        if self._judged:
            result.update(scores.computed(("discriminator_slope",), scores.slope, *self._judged))
        return result

    def sample(self, num_samples):
        """Generates images with labels in turn, from noise that depends on the seed alone.

        Args:
            num_samples: integer.

        Returns:
            Images float32 `(num_samples, height, width, channels)` in [-1, 1] and labels int32 `(num_samples,)`.
        """
        images, labels = zip(*self.sample_batches(num_samples))
        return np.concatenate(images), np.concatenate(labels)

    def sample_batches(self, num_samples):
        """What `sample` returns, in batches."""
        return self._generated(*self._latents(num_samples))

    def _generated(self, z, labels):
        for start in range(0, len(labels), self._batch_size):
            these = slice(start, start + self._batch_size)
            (images,) = self._on_replicas(self._generate, z[these], labels[these])
            yield images, labels[these].numpy()

    def _latents(self, count, num_classes=None):
        model = self._task.model
        z = tf.random.stateless_normal((count, model.latent_dim), (self._seed, 0), alg="philox")
        return z, tf.range(count) % (num_classes or model.num_classes)

    def _real_statistics(self):
        if self._extractor.kind == "classifier":
            self._extractor.prepare()
        description = self.description()
        if os.path.exists(self._statistics_path):
            return real_statistics.load(self._statistics_path, description)
        logging.info("Measuring %d real images for %s", self._contents["num_images"], self._statistics_path)
        features, logits, labels, spread = self._measured(self._task.validation_data)
        values = {}
        if self._extractor.kind == "classifier":
            train_features, *_ = self._measured(self._task.train_data)
            values = {
                **scores.computed(("classifier_test_accuracy",), scores.accuracy, logits, labels),
                **scores.computed(("frechet_distance_floor",), scores.frechet_distance, features, train_features),
                "class_spread": spread,
            }
        if pairs := self._pair_scores(with_shuffled=True):
            for batch in self._batches(self._task.validation_data, _PAIRS_AT_ONCE):
                pairs.add(to_uint8(batch["image"]), batch["label"].numpy())
            values.update(pairs.of_real())
        statistics = real_statistics.RealStatistics(features, labels, values)
        if len(labels):
            try:
                statistics.save(self._statistics_path, description)
            except OSError as error:  # somebody else's run, a full disk: scores need no file
                logging.warning(
                    "%s cannot be kept, and is made again by the next start: %s", self._statistics_path, error
                )
        return statistics

    def _measured(self, data):
        """Features, logits, labels and the spread of a whole data set."""
        parts, spread = [], scores.ClassSpread()
        for batch in self._batches(data, self._batch_size):
            labels = batch["label"].numpy()
            parts.append((*self._features(batch["image"]), labels))
            if self._extractor.kind == "classifier":
                spread.add(batch["image"].numpy(), labels)
        if not parts:  # all are left out as corrupt
            parts.append((np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32), np.zeros(0, np.int32)))
        return (*(np.concatenate(part) for part in zip(*parts)), spread.result())

    def _open(self, data):
        model = self._task.model
        return input_pipelines.open_source(data, model.resolution, model.num_classes)

    def _batches(self, data, batch_size, num_images=None):
        model = self._task.model
        with input_pipelines.value_errors(data):
            yield from input_pipelines.evaluation_dataset(
                data,
                model.resolution,
                batch_size,
                image_channels=model.image_channels,
                num_classes=model.num_classes,
                num_images=num_images,
                group="task.train_data" if data is self._task.train_data else "task.validation_data",
            )

    def _features(self, images):
        return self._on_replicas(self._extract, images)

    def _on_replicas(self, function, *arrays):
        """Applies a function to a batch; all batches are full, so that one trace serves them all."""
        count = len(arrays[0])
        padding = self._batch_size - count
        arrays = [tf.pad(array, [(0, padding)] + [(0, 0)] * (array.ndim - 1), "CONSTANT") for array in arrays]
        return tuple(part.numpy()[:count] for part in function(*arrays))

    @tf.function(autograph=False)
    def _generate(self, z, labels):
        return self._run(lambda z, labels: (self._generator([z, labels], training=False),), z, labels)

    @tf.function(autograph=False)
    def _extract(self, images):
        return self._run(self._extractor, images)

    def _run(self, function, *arrays):
        """Each replica takes its share of the rows; results are together again, in order."""
        share = self._batch_size // self._strategy.num_replicas_in_sync

        def run_share():
            start = tf.distribute.get_replica_context().replica_id_in_sync_group * share
            return function(*(array[start : start + share] for array in arrays))

        def joined(values):
            return tf.cast(tf.concat(self._strategy.experimental_local_results(values), axis=0), tf.float32)

        return [joined(values) for values in self._strategy.run(run_share)]
