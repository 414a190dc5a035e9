#!/usr/bin/env bash
# On a TPU's own machine: bash trainers/launch/tpu.sh
# Run it from the clone, with a TensorFlow built for TPUs. Further flags go to the trainer. See docs/clusters.md.
set -euo pipefail

overrides=(
    runtime.distribution_strategy=tpu
    runtime.tpu="${TPU:-local}" # or the TPU's name, or grpc://ADDRESS
    runtime.mixed_precision_dtype=bfloat16
)
exec python -m trainers.train_gan --experiment=gan_imagenet128 --mode=train_and_eval \
    --model_dir="${MODEL_DIR:-runs/an}" --params_override="$(IFS=, && echo "${overrides[*]}")" "$@"
