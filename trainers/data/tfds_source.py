"""Data sets of TensorFlow Datasets as records not yet decoded."""

import tensorflow as tf

from trainers.data import image_sources, tfrecord_files


def open_tfds(data, labelled):
    """`RecordSource` of the data set `data.name`, in the folder `data.path` or TFDS's own; downloads it where it can.

    Args:
        data: `schema.DataConfig`.
        labelled: whether there must be labels; without, they are 0 where there are none.

    Raises:
        ValueError: where the data set cannot be prepared, has no such split, or no images or labels.
    """
    import tensorflow_datasets as tfds

    try:
        builder = _builder(data)
        builder.download_and_prepare()
    except Exception as error:  # of many kinds: names, networks, disks, and files to be fetched by hand
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"TFDS cannot prepare the data set {data.name!r} in {data.path or 'its own folder'}: "
            f"{reason[0] if reason else type(error).__name__}"
        ) from error
    image_key, label_key = _image_and_label(tfds, builder, labelled)
    # Mocked data sets know no splits and take any.
    if builder.info.splits:
        try:
            images_of_files = [file.take for file in builder.info.splits[data.split].file_instructions]
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"A split of {data.name!r} must be one of {sorted(builder.info.splits)}, or a part of one as in "
                f"'train[:80%]'. Received: {data.split!r}"
            ) from error

    def records(context, seed):
        dataset = builder.as_dataset(
            split=data.split,
            shuffle_files=seed is not None,
            decoders={image_key: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(
                options=_deterministic(),
                try_autocache=False,
                add_tfds_id=True,
                shuffle_seed=seed,
                shuffle_reshuffle_each_iteration=False,
                interleave_cycle_length=1 if seed is None else image_sources.INTERLEAVED_FILES,
                interleave_block_length=image_sources.BLOCK_LENGTH,
                input_context=context,
                enable_ordering_guard=False,
            ),
        )

        def plain(example):
            label = tf.cast(example[label_key], tf.int32) if label_key else tf.constant(0)
            name = tf.strings.join([f"record {data.name} ", example["tfds_id"]])
            return {"image": example[image_key], "label": label, "name": name}

        return dataset.map(plain)

    if not builder.info.splits:
        images_of_files = [int(records(None, None).cardinality())]
    feature = builder.info.features[label_key] if label_key else None
    return image_sources.RecordSource(
        images_of_files,
        tuple(feature.names) if feature and feature.names else None,
        feature.num_classes if feature else None,
        records,
        lambda record: record,
        data.shuffle_buffer_size,
    )


def is_prepared(data):
    """Whether the data set of a `schema.DataConfig` lies in its folder, so that nothing has to be fetched."""
    try:
        return _builder(data).data_path.exists()
    except Exception:  # no such name, no such folder: `open_tfds` says which
        return False


def describe_damage(groups, message):
    """The error of TensorFlow for a damaged record, which names no file, with the file, where it is one of TFDS.

    Args:
        groups: `schema.DataConfig` of what was read.
        message: TensorFlow's.
    """
    for data in groups:
        for path in sorted(_builder(data).data_path.glob("*.tfrecord*")) if data.dataset == "tfds" else ():
            number = tfrecord_files.first_damaged(str(path))
            if number is not None:
                return (
                    f"Record {number} of {path} does not fit its checksum. It cannot be left out: delete the folder, "
                    "and the data set is prepared anew."
                )
    return f"A file of the data is damaged ({message}). Copy or write it again."


def _builder(data):
    import tensorflow_datasets as tfds

    return tfds.builder(data.name, data_dir=data.path or None)


def _image_and_label(tfds, builder, labelled):
    """The names of image and label among the features of a data set of TFDS."""
    features, wanted = builder.info.features, (tfds.features.Image, tfds.features.ClassLabel)
    found = []
    for name, kind in zip(("image", "label"), wanted):
        supervised = builder.info.supervised_keys or ()
        keys = [key for key in (*supervised, name) if key in features and isinstance(features[key], kind)]
        found.append(keys[0] if keys else None)
    if found[0] is None or (labelled and found[1] is None):
        raise ValueError(
            f"The data set of TFDS must hold images with {'labels' if labelled else 'or without labels'}. "
            f"Received: {builder.info.name!r} with {', '.join(features)}"
        )
    return found


def _deterministic():
    options = tf.data.Options()
    options.deterministic = True
    return options
