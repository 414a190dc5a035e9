"""The configuration of a run, in Model Garden's groups: `task`, `trainer`, `runtime`.

The file is long because all settings stand in one place, where people look them up.
"""

import dataclasses
from typing import Optional


def _field(make, **kwargs):
    return dataclasses.field(default_factory=lambda: make(**kwargs))


@dataclasses.dataclass
class NetworkConfig:
    """A generator or a discriminator.

    attention_blocks: the blocks, from 1, that carry the model's attention. num_entities: entities of Attentive
    Normalization. entity_stddev: deviation of their filters at the start; None is the layer's own. temperature,
    self_sampling, value_projection, epsilon: as the layer has them. residual_start: rho, or self-attention's gamma, at
    the start. residual_multiplier: of its learning rate. base_channels: channels at full resolution.
    """

    base_channels: int = 64
    attention_blocks: list[int] = dataclasses.field(default_factory=lambda: [1])
    num_entities: int = 16
    entity_stddev: Optional[float] = None
    temperature: float = 0.1
    self_sampling: bool = True
    value_projection: bool = False
    epsilon: float = 1e-5
    residual_start: float = 0.0
    residual_multiplier: float = 1.0
    spectral_normalization: bool = True


@dataclasses.dataclass
class ModelConfig:
    """Both networks of the class-conditional GAN.

    attention: "none" (SN-GAN), "self_attention" (SAGAN) or "attentive_normalization", in the blocks that each network
    names. resolution: side of the images in pixels. fake_labels: labels of the generated images, "balanced", where each
    class is as likely as any other, or "natural", the labels of the real images of the step. synchronized_batch_norm:
    whether the generator's batch norm takes the moments of all replicas' images rather than of each replica's; not with
    `runtime.enable_xla`.
    """

    attention: str = "attentive_normalization"
    resolution: int = 128
    num_classes: int = 1000
    latent_dim: int = 128
    image_channels: int = 3
    fake_labels: str = "balanced"
    synchronized_batch_norm: bool = True
    generator: NetworkConfig = _field(NetworkConfig, attention_blocks=[3])
    discriminator: NetworkConfig = _field(NetworkConfig)


@dataclasses.dataclass
class LossesConfig:
    """What the networks play.

    orthogonal_weight: lambda_o, the weight of the orthogonality penalty of each Attentive Normalization layer. type:
    "hinge"; "non_saturating", the logistic losses; or "wasserstein" with a gradient penalty, for which
    `trainer.discriminator_steps` should be 5 or so and `spectral_normalization` of the discriminator off.
    gradient_penalty: its weight.
    """

    orthogonal_weight: float = 1e-3
    type: str = "hinge"
    gradient_penalty: float = 10.0


@dataclasses.dataclass
class DataConfig:
    """Images with labels.

    dataset: "digits"; "pairs", drawn pictures with a long-range rule; "photos", photographs of scikit-image and
    scikit-learn, without labels; "tfds", the set `name` of TensorFlow Datasets, in the folder `path` or TFDS's own;
    "folder", a folder for each class in `path`/`split`, or any images below it where labels do not matter; "tfrecord",
    files `path`/`split`-... of `image/encoded` and `image/class/label`. split: its name, or a part as in "train[:80%]"
    of TFDS; "." is the folder `path` itself. global_batch_size: images of a step over all replicas. label_offset: added
    to the labels of TFRecords, -1 where they start at 1. class_names: of TFRecords, which do not tell them, in the
    order of the labels; [] where nobody knows. random_flip: whether half of the images of training are mirrored.
    random_crop: whether the squares of training are cut out at random places: of an encoded image along its longer
    side. random_crop_area: least and largest area of such a square, as a share of the largest's; each image draws one
    in between, and [] takes the largest. skip_corrupt: whether to log and leave out images that cannot be decoded,
    labels out of range and empty classes, which are errors otherwise. background: three levels from 0 to 255, of red,
    green and blue, on which transparent images are laid; [] ignores alpha. cache: whether every worker keeps all images
    in memory, decoded and resized, or with `random_crop` decoded and whole. shuffle_buffer_size: encoded images among
    which TFDS and TFRecords are shuffled where `cache` is off; the others shuffle all.
    """

    dataset: str = "digits"
    name: str = ""
    path: str = ""
    split: str = "train"
    global_batch_size: int = 64
    label_offset: int = 0
    class_names: list[str] = dataclasses.field(default_factory=list)
    random_flip: bool = False
    random_crop: bool = False
    random_crop_area: list[float] = dataclasses.field(default_factory=list)
    skip_corrupt: bool = False
    background: list[int] = dataclasses.field(default_factory=lambda: [255, 255, 255])
    cache: bool = False
    shuffle_buffer_size: int = 8192


@dataclasses.dataclass
class EvaluationConfig:
    """How generated images are scored against those of `validation_data`.

    num_samples: generated images that are scored. inception_path: folder or TF-Hub handle of TF-GAN's Inception, for
    FID, KID and Inception score; where it is empty, a classifier of the training images stands in for Inception.
    classifier: "small", or "residual", which knows natural pictures far better and takes far longer. classifier_epochs:
    epochs of that classifier. classifier_dir: its folder, which runs may share; where it is empty, the run's.
    intra_class: whether to compute the Fréchet distance within classes.
    statistics_dir: folder of what is known of the real images; where it is empty, the run's.
    """

    num_samples: int = 1000
    inception_path: str = ""
    classifier: str = "small"
    classifier_epochs: int = 20
    classifier_dir: str = ""
    intra_class: bool = False
    statistics_dir: str = ""


@dataclasses.dataclass
class TaskConfig:
    """What is learned from what.

    augmentation: changes to all images that the discriminator sees, of "color", "translation" and "cutout"
    (DiffAugment). init_checkpoint: whose weights a new run starts from: a run's folder, its DIR/ckpt-STEP, or a .keras
    or .weights.h5 file of a generator; of a run its averaged generator. Resolutions may differ; layers that do not fit
    stay as they start, with a warning. init_checkpoint_modules: what is taken: "all", or of "generator" and
    "discriminator".
    """

    model: ModelConfig = _field(ModelConfig)
    losses: LossesConfig = _field(LossesConfig)
    train_data: DataConfig = _field(DataConfig)
    validation_data: DataConfig = _field(DataConfig, split="test")
    evaluation: EvaluationConfig = _field(EvaluationConfig)
    augmentation: list[str] = dataclasses.field(default_factory=list)
    init_checkpoint: str = ""
    init_checkpoint_modules: list[str] = dataclasses.field(default_factory=lambda: ["all"])


@dataclasses.dataclass
class InpaintingGeneratorConfig:
    """The two-stage generator.

    attention: "none", "self_attention" or "attentive_normalization" in the second stage. num_entities, entity_stddev:
    as in `NetworkConfig`. statistics: "weighted", or "released" for weights of the released code. first_fill: what the
    first stage sees in the hole: "zeros", as in the paper, or "diffusion", a smooth fill to which both stages then add.
    """

    base_channels: int = 32
    attention: str = "attentive_normalization"
    num_entities: int = 16
    entity_stddev: Optional[float] = None
    statistics: str = "weighted"
    first_fill: str = "zeros"


@dataclasses.dataclass
class CriticConfig:
    """The critics: of the whole image, and of the rectangle or the patches that the hole touches."""

    base_channels: int = 64
    attention: str = "self_attention"
    num_entities: int = 16


@dataclasses.dataclass
class InpaintingModelConfig:
    """Generator and critics. resolution: side of the squares of training in pixels, a multiple of 4."""

    resolution: int = 256
    image_channels: int = 3
    generator: InpaintingGeneratorConfig = _field(InpaintingGeneratorConfig)
    critic: CriticConfig = _field(CriticConfig)


@dataclasses.dataclass
class MaskConfig:
    """Holes, 1 = missing; lengths are in pixels.

    kinds: each image takes one of these at random: "rectangle", a square of side `size` at a random place, of which
    each pair of opposite sides moves in by up to `max_shrink` / 2; "center", that square in the middle; "strokes",
    `num_strokes` broken lines of up to `max_vertices` pieces, each up to `max_length` long, `min_width` to `max_width`
    wide and turned by up to `max_angle` degrees; "box", a rectangle of sides from `size` / 8 to `size` around a point
    anywhere, cut off at the border; "blob", a rounded outline, likewise; "border", one side of the image, up to `size`
    / 2 wide, or all four, up to half as wide, to be painted on; "text", lines of letters `size` / 8 to `size` / 3 high;
    "folder", images in `path`, where more than half bright is missing, or with `invert` the rest.
    """

    kinds: list[str] = dataclasses.field(default_factory=lambda: ["rectangle"])
    size: int = 128
    max_shrink: int = 32
    num_strokes: int = 8
    max_vertices: int = 16
    max_length: float = 80.0
    min_width: float = 10.0
    max_width: float = 20.0
    max_angle: float = 360.0
    path: str = ""
    invert: bool = False


@dataclasses.dataclass
class InpaintingLossesConfig:
    """Weights of the terms, by default the released code's.

    hole, known: L1 in the hole and outside; coarse, fine: of the two stages, in both. discount: of the hole's pixels
    for each step away from what is known; 1 counts all alike. adversarial: of the generator's Wasserstein term.
    gradient_penalty: of the critics'. orthogonal_weight: lambda_o of Attentive Normalization. id_mrf: of the ID-MRF
    term on VGG-19 features, times `hole`; it needs `vgg_weights`, the file of `keras.applications.VGG19` without its
    top.
    """

    hole: float = 1.4
    known: float = 1.2
    coarse: float = 1.2
    fine: float = 1.2
    discount: float = 0.9
    adversarial: float = 1e-3
    gradient_penalty: float = 10.0
    orthogonal_weight: float = 2e-4
    id_mrf: float = 0.05
    vgg_weights: str = ""


@dataclasses.dataclass
class InpaintingEvaluationConfig:
    """How completed images are scored against those of `validation_data`, with masks that stay the same.

    masks: kinds, each scored on its own. num_images: evenly out of the data. biharmonic: whether scikit-image's
    biharmonic fill, which takes a second or so for each image, is scored beside. inception_path: of TF-GAN's
    Inception, for FID; empty, there is none.
    """

    masks: list[str] = dataclasses.field(default_factory=lambda: ["center", "strokes"])
    num_images: int = 64
    biharmonic: bool = True
    inception_path: str = ""


@dataclasses.dataclass
class InpaintingTaskConfig:
    """What is learned from what.

    init_checkpoint, init_checkpoint_modules: as in `TaskConfig`; the modules are "generator" and "critics".
    """

    model: InpaintingModelConfig = _field(InpaintingModelConfig)
    losses: InpaintingLossesConfig = _field(InpaintingLossesConfig)
    masks: MaskConfig = _field(MaskConfig)
    train_data: DataConfig = _field(DataConfig, dataset="photos", random_crop=True)
    validation_data: DataConfig = _field(DataConfig, dataset="photos", split="test")
    evaluation: InpaintingEvaluationConfig = _field(InpaintingEvaluationConfig)
    init_checkpoint: str = ""
    init_checkpoint_modules: list[str] = dataclasses.field(default_factory=lambda: ["all"])


# Classes of Keras, and of TensorFlow Addons, by `type`.
KERAS_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}
ADDONS_OPTIMIZERS = {
    "lamb": "LAMB",
    "lazy_adam": "LazyAdam",
    "rectified_adam": "RectifiedAdam",
    "lookahead": "Lookahead",
    "moving_average": "MovingAverage",
}


@dataclasses.dataclass
class OptimizerConfig:
    """Adam, as SAGAN sets it, or another, and how its learning rate goes.

    type: of Keras "adam", "adamw", "sgd" or "rmsprop"; or of TensorFlow Addons, on TensorFlow 2.15: "lamb",
    "lazy_adam", "rectified_adam", and around Adam "lookahead" (half way back to the slow weights at every sixth update)
    or "moving_average" (of the weights, in the checkpoints, by `trainer.ema_decay`; evaluation uses the trainer's own).
    beta_1, beta_2, epsilon: of all but "sgd"; "rmsprop" has `rho` and `momentum` in place of the betas. weight_decay:
    of "adamw". momentum, nesterov: of "sgd".

    The rate counts updates of this optimizer. schedule: "constant", "cosine" to `alpha` times the rate, or "polynomial"
    of the exponent `power` to `end_learning_rate`, over `decay_steps`; 0 of these keep the rate as it is. warmup_steps:
    over which the rate first rises in a line from `warmup_learning_rate` to where the schedule then is.
    """

    type: str = "adam"
    learning_rate: float = 1e-4
    beta_1: float = 0.0
    beta_2: float = 0.9
    epsilon: float = 1e-8
    decay_steps: int = 0
    schedule: str = "cosine"
    alpha: float = 0.01
    end_learning_rate: float = 0.0
    power: float = 1.0
    warmup_steps: int = 0
    warmup_learning_rate: float = 0.0
    weight_decay: float = 0.004
    momentum: float = 0.0
    nesterov: bool = False
    rho: float = 0.9

    @property
    def is_constant(self):
        """Whether the learning rate stays as it is."""
        return not self.warmup_steps and (self.schedule == "constant" or not self.decay_steps)


@dataclasses.dataclass
class TrainerConfig:
    """How long, how often, and by which optimizers. Intervals and `train_steps` count generator steps.

    steps_per_loop: steps in one call of the compiled loop. max_to_keep: checkpoints kept. discriminator_steps: updates
    of the discriminator before each of the generator. gradient_accumulation_steps: batches whose gradients are averaged
    in one update of either network. ema_decay: of the generator's weights that evaluation uses; 0 keeps no average.
    ema_start_step: the average is the generator itself before this step. pretrain_steps: of inpainting, the first steps
    train the generator by reconstruction alone. loss_upper_bound: a loss that is not finite, or further than this from
    0, sends the run back to its last checkpoint, past the data that it met since. max_recoveries: how often in a row,
    without a checkpoint between; the run stops after that. best_checkpoint_export_subdir: folder in the run's for the
    checkpoint with the best score `best_checkpoint_eval_metric`, of which "higher" or "lower" ones are better by
    `best_checkpoint_metric_comp`; empty, none is kept apart. continuous_eval_timeout: seconds that
    `--mode=continuous_eval` waits for a new checkpoint.
    """

    train_steps: int = 1_000_000
    steps_per_loop: int = 100
    checkpoint_interval: int = 5000
    summary_interval: int = 500
    validation_interval: int = 10_000
    max_to_keep: int = 5
    discriminator_steps: int = 1
    gradient_accumulation_steps: int = 1
    generator_optimizer: OptimizerConfig = _field(OptimizerConfig)
    discriminator_optimizer: OptimizerConfig = _field(OptimizerConfig, learning_rate=4e-4)
    ema_decay: float = 0.999
    ema_start_step: int = 0
    pretrain_steps: int = 0
    loss_upper_bound: float = 1e6
    max_recoveries: int = 3
    best_checkpoint_export_subdir: str = ""
    best_checkpoint_eval_metric: str = ""
    best_checkpoint_metric_comp: str = "higher"
    continuous_eval_timeout: int = 3600


# Strategies of several processes, which wait for one another.
OF_SEVERAL_PROCESSES = ("multi_worker_mirrored", "tpu")

# How gradients may be added up under each strategy, and what TensorFlow calls it.
ALL_REDUCE = {
    "mirrored": {
        "nccl": "NcclAllReduce",
        "hierarchical_copy": "HierarchicalCopyAllReduce",
        "one_device": "ReductionToOneDevice",
    },
    "multi_worker_mirrored": {"nccl": "NCCL", "ring": "RING"},
}


@dataclasses.dataclass
class RuntimeConfig:
    """Where it runs.

    distribution_strategy: "off", "one_device", "mirrored" (all GPUs of this machine), "multi_worker_mirrored" (a
    process on each machine) or "tpu". num_gpus: of this process, from the first; None takes all that TensorFlow sees, 0
    runs on the CPU. tpu: name or address of the TPU, "local" on a TPU's own machine. all_reduce_alg: how gradients are
    added up, a key of `ALL_REDUCE`; None leaves it to TensorFlow. cluster: where "multi_worker_mirrored" finds its
    workers: "tf_config", the environment variable TF_CONFIG; "slurm"; "kubernetes", a Job with indexed completion.
    grace_seconds: time between SIGTERM and the end; no call of the compiled loop takes more than half of it, but the
    first of a start or phase. mixed_precision_dtype: "float32", "bfloat16", or "float16" with loss scaling. enable_xla:
    whether losses and gradients are compiled with XLA. seed: of weights, data order and noise. deterministic: whether
    TensorFlow's ops must give the same bits in every run.
    """

    distribution_strategy: str = "mirrored"
    num_gpus: Optional[int] = None
    tpu: str = ""
    all_reduce_alg: Optional[str] = None
    cluster: str = "tf_config"
    grace_seconds: float = 30.0
    mixed_precision_dtype: str = "float32"
    enable_xla: bool = False
    seed: int = 0
    deterministic: bool = False


@dataclasses.dataclass
class ExperimentConfig:
    """The whole configuration of a run of the class-conditional GAN; `params.yaml` holds it."""

    application: str = "gan"
    experiment: str = ""  # its name, for whoever reads params.yaml
    task: TaskConfig = _field(TaskConfig)
    trainer: TrainerConfig = _field(TrainerConfig)
    runtime: RuntimeConfig = _field(RuntimeConfig)


@dataclasses.dataclass
class InpaintingConfig:
    """The whole configuration of an inpainting run; `params.yaml` holds it."""

    application: str = "inpainting"
    experiment: str = ""
    task: InpaintingTaskConfig = _field(InpaintingTaskConfig)
    trainer: TrainerConfig = _field(TrainerConfig)
    runtime: RuntimeConfig = _field(RuntimeConfig)


APPLICATIONS = {"gan": ExperimentConfig, "inpainting": InpaintingConfig}
