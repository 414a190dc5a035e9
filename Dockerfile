# An image of the trainers and tools for NVIDIA GPUs; its working folder is a clone, which the files of trainers/launch run.
#   docker build -t registry.example.com/keras_an:1 . && docker push registry.example.com/keras_an:1
#   docker run --gpus=all -v "$PWD/runs:/keras_an/runs" registry.example.com/keras_an:1 \
#       python -m trainers.train_gan --experiment=gan_digits32 --model_dir=runs/demo
# CUDA's libraries come with TensorFlow; the driver is the machine's own, through NVIDIA's container toolkit.
FROM python:3.11-slim

RUN useradd --create-home --uid=1000 keras_an
WORKDIR /keras_an

# What is installed changes less often than the sources do.
COPY setup.py README.md ./
COPY keras_an/__init__.py keras_an/
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir '.[train,gpu]'

COPY . .
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir --no-deps --editable . && mkdir -p runs && chown keras_an: . runs
USER 1000
# Pods see what is logged when it is logged.
ENV PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=1
CMD ["python", "-m", "trainers.train_gan", "--helpshort"]
