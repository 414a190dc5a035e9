#!/usr/bin/env bash
# One machine, all replicas in one process: bash trainers/launch/one_machine.sh
# Run it from the clone. Further flags go to the trainer. See docs/clusters.md.
set -euo pipefail

overrides=(
    runtime.distribution_strategy=mirrored
    runtime.num_gpus="${NUM_GPUS:-4}"
    runtime.mixed_precision_dtype=bfloat16
)
# `exec`, so that SIGTERM reaches the trainer.
exec python -m trainers.train_gan --experiment=gan_imagenet128 --mode=train_and_eval \
    --model_dir="${MODEL_DIR:-runs/an}" --params_override="$(IFS=, && echo "${overrides[*]}")" "$@"
