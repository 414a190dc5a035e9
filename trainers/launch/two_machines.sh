#!/usr/bin/env bash
# One process on each machine, by TF_CONFIG. On machine a, then on machine b, from the clone:
#
#   MODEL_DIR=/shared/runs/an bash trainers/launch/two_machines.sh 0 a:2222 b:2222
#   MODEL_DIR=/shared/runs/an bash trainers/launch/two_machines.sh 1 a:2222 b:2222
#
# More machines are more hosts. All get the same hosts in the same order. See docs/clusters.md.
set -euo pipefail

index="${1:-}"
if [[ $# -lt 3 || ! "$index" =~ ^[0-9]+$ || "$index" -ge $(($# - 1)) ]]; then
    echo "Usage: $0 INDEX HOST:PORT HOST:PORT ...; INDEX, from 0, is this machine's place among the hosts." >&2
    exit 2
fi
shift
workers="$(printf '"%s",' "$@")"
export TF_CONFIG="{\"cluster\": {\"worker\": [${workers%,}]}, \"task\": {\"type\": \"worker\", \"index\": $index}}"

overrides=(
    runtime.distribution_strategy=multi_worker_mirrored
    runtime.cluster=tf_config
    runtime.num_gpus="${NUM_GPUS:-4}" # of each machine
    runtime.mixed_precision_dtype=bfloat16
)
exec python -m trainers.train_gan --experiment=gan_imagenet128 --mode=train_and_eval \
    --model_dir="${MODEL_DIR:?a folder that all machines share}" \
    --params_override="$(IFS=, && echo "${overrides[*]}")"
