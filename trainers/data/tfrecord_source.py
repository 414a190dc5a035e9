"""Images in TFRecord files, as Model Garden writes them."""

import contextlib
import os

import tensorflow as tf

from trainers.data import tfrecord_files
from trainers.data.image_sources import BLOCK_LENGTH, INTERLEAVED_FILES, RecordSource, contents_of

_IMAGE, _LABEL = "image/encoded", "image/class/label"


def open_tfrecords(data, labelled):
    """`RecordSource` of the files `data.path`/`data.split`-... with `image/encoded` and `image/class/label`.

    Args:
        data: `schema.DataConfig`.
        labelled: whether there must be labels; without, they are 0 where there are none.

    Raises:
        ValueError: where there is no such file, one is compressed, cut off or damaged, or has other features.
    """
    files = tfrecord_files.files_of(data)
    if not files:
        raise ValueError(
            f"TFRecord files must be called `path`/`split`-...: there is no file {data.path}/{data.split}-*."
            f"{contents_of(data.path)}"
        )
    encoded_paths = [os.fsencode(path) for path in files]  # names of files need not be UTF-8

    def records(context, seed):
        own = encoded_paths[context.input_pipeline_id :: context.num_input_pipelines] if context else encoded_paths
        paths = tf.data.Dataset.from_tensor_slices(own)
        if seed is None:
            return paths.flat_map(_named_records)
        paths = paths.shuffle(len(own), seed=seed, reshuffle_each_iteration=False)
        return paths.interleave(
            _named_records, INTERLEAVED_FILES, BLOCK_LENGTH, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    def read(record):
        features = {
            _IMAGE: tf.io.FixedLenFeature((), tf.string),
            _LABEL: tf.io.FixedLenFeature((), tf.int64, None if labelled else 0),
        }
        example = tf.io.parse_single_example(record["record"], features)
        return {"image": example[_IMAGE], "label": tf.cast(example[_LABEL], tf.int32) + data.label_offset}

    counts = [tfrecord_files.count_records(path, os.path.getsize(path)) for path in files]
    if not sum(counts):
        raise ValueError(f"The TFRecord files {data.path}/{data.split}-* hold no record.")
    for path, count in zip(files, counts):
        if count:
            _check_features(path, [_IMAGE, _LABEL] if labelled else [_IMAGE])
            break
    names = tuple(data.class_names) if labelled and data.class_names else None
    return RecordSource(counts, names, len(names) if names else None, records, read, data.shuffle_buffer_size)


def _check_features(path, wanted):
    """Looks at the first record of a file, unless it is damaged, which is told when it is its turn."""
    try:
        found = tf.train.Example.FromString(tfrecord_files.read_record(path, 0) or b"").features.feature
    except Exception:  # of protobuf, whose kinds differ: no example at all
        return
    missing = [name for name in wanted if name not in found]
    if missing and found:
        raise ValueError(
            f"The records must hold {' and '.join(f'`{name}`' for name in wanted)}: record 0 of {path} holds "
            f"{', '.join(f'`{name}`' for name in sorted(found))}. Write them under these names."
        )


def _named_records(path):
    """The records of a file with their names. One that is damaged is empty, and those after it come as well."""
    # TensorFlow reads fastest, but not past the first that is damaged. Whether it stopped early is looked at once in a
    # block of records, since that takes longer than to read one.
    # Of a file that cannot be opened, `ignore_errors` would try again without end.
    good = (
        tf.data.TFRecordDataset(tf.ensure_shape(tf.numpy_function(_opened, [path], tf.string), ()))
        .map(lambda record: (record, True))
        .ignore_errors()
    )
    with_end = good.concatenate(tf.data.Dataset.from_tensors((b"", False))).enumerate()

    def with_rest(numbers, block):
        records, is_record = block
        first, end = tf.cond(
            is_record[-1],
            lambda: (tf.constant(0, tf.int64), tf.constant(0, tf.int64)),
            lambda: (numbers[-1], tf.numpy_function(_count, [path], tf.int64)),
        )
        parts = numbers[is_record], records[is_record], is_record[is_record]
        rest = tf.data.Dataset.range(first, end).map(read_alone)
        return tf.data.Dataset.from_tensor_slices(parts).concatenate(rest)

    def read_alone(number):
        record, is_good = tf.numpy_function(_read_alone, [path, number], (tf.string, tf.bool))
        return number, tf.ensure_shape(record, ()), tf.ensure_shape(is_good, ())

    def name(number, record, is_good):
        damage = tf.where(is_good, "", ", whose data do not fit their checksum,")
        return {
            "record": record,
            "name": tf.strings.join(["record ", tf.strings.as_string(number), " of ", path, damage]),
        }

    return with_end.batch(BLOCK_LENGTH).flat_map(with_rest).map(name)


def _opened(path):
    with _read_errors(path) as name, open(name, "rb"):
        return path


def _count(path):
    with _read_errors(path) as path:
        return tfrecord_files.count_records(path, os.path.getsize(path))


def _read_alone(path, number):
    with _read_errors(path) as path:
        record = tfrecord_files.read_record(path, int(number))
    return (b"", False) if record is None else (record, True)


@contextlib.contextmanager
def _read_errors(path):
    """A context with the path as a string; the system's errors are ValueErrors, which `value_errors` passes on."""
    path = os.fsdecode(path)
    try:
        yield path
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
