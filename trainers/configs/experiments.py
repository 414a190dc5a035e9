"""The named experiments. Each docstring gives the command, the cost and the result that was measured.

The file is long because all experiments stand in one place, where people look them up.
"""

from trainers.configs import schema

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def gan_digits32():
    """Class-conditional hinge GAN with AN on scikit-learn's handwritten digits at 32 x 32; the demo.

    Command: python -m trainers.train_gan --experiment=gan_digits32 --mode=train_and_eval --model_dir=runs/demo
    Cost: 2.5 minutes on 2 CPU cores that do nothing else, 1.25 GB of memory.
    Result: label accuracy 0.997 (real test digits 0.992), Fréchet distance in the classifier's features 18.8 (real
    training digits 3.5), spread within a class 0.70 of the real digits'; the generator's layout entropy 0.71 log n,
    all 8 entities in use, rho 0.13. Seeds 2 and 3: distance 15.5 and 19.5, spread 0.68 and 0.63.
    """
    return schema.ExperimentConfig(
        task=schema.TaskConfig(
            model=schema.ModelConfig(
                resolution=32,
                num_classes=10,
                latent_dim=32,
                image_channels=1,
                generator=schema.NetworkConfig(
                    base_channels=8, attention_blocks=[2], num_entities=8, entity_stddev=4.0
                ),
                discriminator=schema.NetworkConfig(
                    base_channels=16, attention_blocks=[1], num_entities=8, entity_stddev=5.0
                ),
            ),
            train_data=schema.DataConfig(global_batch_size=32),
            validation_data=schema.DataConfig(split="test", global_batch_size=100),
        ),
        trainer=schema.TrainerConfig(
            train_steps=1400,
            steps_per_loop=20,
            checkpoint_interval=200,
            summary_interval=100,
            validation_interval=200,
            max_to_keep=2,
            discriminator_steps=2,
            generator_optimizer=schema.OptimizerConfig(learning_rate=5e-4),
            discriminator_optimizer=schema.OptimizerConfig(learning_rate=1e-3),
            ema_decay=0.995,
        ),
        runtime=schema.RuntimeConfig(distribution_strategy="one_device", seed=1),
    )


def gan_cifar10():
    """Class-conditional hinge GAN with AN on CIFAR-10 at 32 x 32, in SN-GAN's widths.

    Command: python -m trainers.train_gan --experiment=gan_cifar10 --mode=train_and_eval --model_dir=runs/cifar10
    Variants: --params_override=task.model.attention=self_attention (or none), all else the same. In half the width AN
        in the discriminator cost variety, see `gan_cifar10_small`: task.model.discriminator.attention_blocks=[] leaves
        it out.
    Cost: not measured on a GPU; TensorFlow Datasets downloads 163 MB.
    Result: not run to its end. Its first steps run in the tests, on data of the same form.
    """
    data = {"dataset": "tfds", "name": "cifar10"}
    return schema.ExperimentConfig(
        task=schema.TaskConfig(
            model=schema.ModelConfig(
                resolution=32,
                num_classes=10,
                generator=schema.NetworkConfig(base_channels=64, attention_blocks=[2]),
                discriminator=schema.NetworkConfig(base_channels=64, attention_blocks=[1]),
            ),
            train_data=schema.DataConfig(global_batch_size=64, random_flip=True, cache=True, **data),
            validation_data=schema.DataConfig(split="test", global_batch_size=100, **data),
            evaluation=schema.EvaluationConfig(num_samples=10_000),
        ),
        trainer=schema.TrainerConfig(
            train_steps=100_000,
            steps_per_loop=100,
            discriminator_steps=2,
            generator_optimizer=schema.OptimizerConfig(learning_rate=2e-4),
            discriminator_optimizer=schema.OptimizerConfig(learning_rate=2e-4),
            ema_start_step=1000,
        ),
    )


def gan_cifar10_small():
    """Class-conditional hinge GAN with AN on CIFAR-10 from TFRecords, in widths that two CPU cores can train.

    Command: python -m trainers.train_gan --experiment=gan_cifar10_small --mode=train_and_eval --model_dir=runs/cifar10
        --params_override=task.train_data.path=DIR,task.validation_data.path=DIR
    DIR holds `train-...` and `test-...`, as `dataset: tfrecord` reads them; `task.train_data.dataset=tfds` and
    `task.train_data.name=cifar10`, and the same for `task.validation_data`, take TensorFlow Datasets'.
    Variants: `python -m trainers.compare --suite=cifar10` runs all that are compared.
    Samples are scored in the features of a residual classifier, which is right on 0.881 of the test images.
    Cost and result: not run to its end. In bfloat16, 192,000 images, a quarter of an hour of one core, three seeds, in
    the features of a classifier that is right on 0.82: Fréchet distance 78 ± 33, recall 0.33 ± 0.09; without attention
    63 ± 19 and 0.29 ± 0.03. The attention is in the generator alone: in the discriminator, behind spectral norms, it
    cost variety. docs/results.md has the arms, and why.
    """
    data = {"dataset": "tfrecord", "path": "data/cifar10", "class_names": list(_CIFAR10)}
    return schema.ExperimentConfig(
        task=schema.TaskConfig(
            model=schema.ModelConfig(
                resolution=32,
                num_classes=10,
                generator=schema.NetworkConfig(base_channels=32, attention_blocks=[2]),
                discriminator=schema.NetworkConfig(base_channels=32, attention_blocks=[]),
            ),
            train_data=schema.DataConfig(global_batch_size=32, random_flip=True, cache=True, **data),
            validation_data=schema.DataConfig(split="test", global_batch_size=100, **data),
            evaluation=schema.EvaluationConfig(
                num_samples=10_000, classifier="residual", classifier_epochs=24, intra_class=True
            ),
        ),
        trainer=schema.TrainerConfig(
            train_steps=15_624,
            steps_per_loop=25,
            checkpoint_interval=250,
            summary_interval=125,
            validation_interval=1953,
            max_to_keep=2,
            discriminator_steps=2,
            generator_optimizer=schema.OptimizerConfig(learning_rate=5e-4),
            discriminator_optimizer=schema.OptimizerConfig(learning_rate=1e-3),
            ema_start_step=300,
        ),
        runtime=schema.RuntimeConfig(distribution_strategy="one_device", seed=1),
    )


def gan_pairs32():
    """Class-conditional WGAN-GP with AN on pairs at 32 x 32: two objects far apart that must agree.

    Command: python -m trainers.train_gan --experiment=gan_pairs32 --mode=train_and_eval --model_dir=runs/pairs
    Variants: `python -m trainers.compare --suite=pairs` runs all that are compared.
    Cost and result: not run to its end. `pair_agreement` of real pictures is 1.00, with halves shuffled 0.02. Seed 1
    without attention, after 80,000, 160,000 and 240,000 pictures: agreement 0.00, 0.03 and 0.16, Fréchet distance 152,
    50 and 32; with AN and `residual_multiplier=10` in both networks: 0.02, 0.08 and 0.20, and 161, 108 and 96. By the
    hinge loss with spectral norms it fell into a few pictures: 415 after 120,000 and 693 after 200,000, at a spread of
    0.5. With five updates of the discriminator in a step, rather than two, it was 213 after 96,000.
    """
    return _pairs(32, [2])


def gan_pairs64():
    """`gan_pairs32` at 64 x 64, with a block more in each network.

    Command: python -m trainers.train_gan --experiment=gan_pairs64 --mode=train_and_eval --model_dir=runs/pairs64
    Cost and result: not run to its end.
    """
    return _pairs(64, [3])


def _pairs(resolution, generator_blocks):
    return schema.ExperimentConfig(
        task=schema.TaskConfig(
            model=schema.ModelConfig(
                resolution=resolution,
                num_classes=4,
                latent_dim=64,
                generator=schema.NetworkConfig(base_channels=16, attention_blocks=generator_blocks),
                discriminator=schema.NetworkConfig(
                    base_channels=16, attention_blocks=[1], spectral_normalization=False
                ),
            ),
            losses=schema.LossesConfig(type="wasserstein"),
            train_data=schema.DataConfig(dataset="pairs", global_batch_size=64),
            validation_data=schema.DataConfig(dataset="pairs", split="test", global_batch_size=100),
            evaluation=schema.EvaluationConfig(num_samples=4000, classifier_epochs=2, intra_class=True),
        ),
        trainer=schema.TrainerConfig(
            train_steps=5000,
            steps_per_loop=25,
            checkpoint_interval=250,
            summary_interval=125,
            validation_interval=625,
            max_to_keep=2,
            discriminator_steps=2,
            generator_optimizer=schema.OptimizerConfig(learning_rate=5e-4),
            discriminator_optimizer=schema.OptimizerConfig(learning_rate=1e-3),
            ema_start_step=500,
        ),
        runtime=schema.RuntimeConfig(distribution_strategy="one_device", seed=1),
    )


def gan_imagenet128():
    """The paper's Table 1: class-conditional hinge GAN on ImageNet at 128 x 128, AN in G's third and D's first block.

    Command: python -m trainers.train_gan --experiment=gan_imagenet128 --mode=train_and_eval --model_dir=runs/an
        --params_override=runtime.num_gpus=4,task.evaluation.inception_path=DIR,task.evaluation.intra_class=true
    DIR is the folder or TF-Hub handle of TF-GAN's Inception; without it a classifier stands in, and nothing is an FID.
    Variants: `gan_imagenet128_sagan`, `gan_imagenet128_sngan`, which differ in `task.model.attention` alone.
    Cost: not measured. ImageNet must have been prepared by hand, as TensorFlow Datasets says.
    Result: not run. The paper reports FID 17.84, intra-FID 83.4 and an Inception score of 46.57 after 880,000 steps;
    SAGAN 18.65, 83.7 and 52.52, for SN-GAN 27.62, 92.4 and 36.80 after 1,000,000.
    """
    data = {"dataset": "tfds", "name": "imagenet2012"}
    return schema.ExperimentConfig(
        task=schema.TaskConfig(
            train_data=schema.DataConfig(global_batch_size=256, random_flip=True, **data),
            validation_data=schema.DataConfig(split="validation", global_batch_size=256, **data),
            evaluation=schema.EvaluationConfig(num_samples=50_000),
        ),
        trainer=schema.TrainerConfig(train_steps=880_000, ema_start_step=20_000),
    )


def gan_imagenet128_sagan():
    """`gan_imagenet128` with self-attention in place of AN.

    Command: python -m trainers.train_gan --experiment=gan_imagenet128_sagan --mode=train_and_eval --model_dir=DIR
    Cost and result: not run.
    """
    params = gan_imagenet128()
    params.task.model.attention = "self_attention"
    return params


def gan_imagenet128_sngan():
    """`gan_imagenet128` without attention.

    Command: python -m trainers.train_gan --experiment=gan_imagenet128_sngan --mode=train_and_eval --model_dir=DIR
    Cost and result: not run.
    """
    params = gan_imagenet128()
    params.task.model.attention = "none"
    return params


def gan_folder():
    """Class-conditional hinge GAN with AN on a folder of class folders at 64 x 64, with DiffAugment for small sets.

    Command: python -m trainers.train_gan --experiment=gan_folder --mode=train_and_eval --model_dir=runs/mine
        --params_override=task.model.num_classes=3,task.train_data.path=DIR,task.validation_data.path=DIR
    DIR holds `train` and `test`, each with a folder of images for every class.
    Cost: not measured.
    Result: not run to its end. Its first steps run in the tests, on crops of two photographs.
    """
    data = {"dataset": "folder", "path": "data"}
    return schema.ExperimentConfig(
        task=schema.TaskConfig(
            model=schema.ModelConfig(
                resolution=64,
                num_classes=2,
                generator=schema.NetworkConfig(base_channels=32, attention_blocks=[3]),
                discriminator=schema.NetworkConfig(base_channels=32, attention_blocks=[1]),
            ),
            train_data=schema.DataConfig(global_batch_size=32, random_flip=True, **data),
            validation_data=schema.DataConfig(split="test", global_batch_size=50, **data),
            augmentation=["color", "translation", "cutout"],
        ),
        trainer=schema.TrainerConfig(
            train_steps=50_000,
            steps_per_loop=20,
            checkpoint_interval=1000,
            summary_interval=100,
            validation_interval=1000,
            generator_optimizer=schema.OptimizerConfig(learning_rate=2e-4),
            discriminator_optimizer=schema.OptimizerConfig(learning_rate=4e-4),
        ),
    )


def inpainting_photos64():
    """Inpainting with AN on 64 x 64 crops of the photographs that scikit-image and scikit-learn bring; the demo.

    Command: python -m trainers.train_inpainting --experiment=inpainting_photos64 --mode=train_and_eval
        --model_dir=runs/inpainting
    Cost: 4 minutes on 2 CPU cores that do nothing else, 125 to 160 images/s in the first phase.
    Result: L1 in the hole 0.076 for center squares (the known pixels' mean 0.096, biharmonic 0.065) and 0.068 for
    strokes (0.110 and 0.046). With 10 times the steps 0.076 and 0.058.
    """
    critic_rate = schema.OptimizerConfig(learning_rate=2e-4, beta_1=0.5, beta_2=0.9)
    return schema.InpaintingConfig(
        task=schema.InpaintingTaskConfig(
            model=schema.InpaintingModelConfig(
                resolution=64,
                generator=schema.InpaintingGeneratorConfig(base_channels=8, num_entities=8),
                critic=schema.CriticConfig(base_channels=16, attention="none"),
            ),
            losses=schema.InpaintingLossesConfig(discount=1.0),
            masks=schema.MaskConfig(
                kinds=["rectangle", "strokes"],
                size=32,
                max_shrink=16,
                num_strokes=3,
                max_vertices=6,
                max_length=24.0,
                min_width=4.0,
                max_width=10.0,
            ),
            train_data=schema.DataConfig(dataset="photos", global_batch_size=4, random_crop=True, random_flip=True),
            validation_data=schema.DataConfig(dataset="photos", split="test", global_batch_size=32),
        ),
        trainer=schema.TrainerConfig(
            train_steps=6100,
            steps_per_loop=50,
            checkpoint_interval=1000,
            summary_interval=200,
            validation_interval=2000,
            max_to_keep=2,
            discriminator_steps=5,
            generator_optimizer=schema.OptimizerConfig(learning_rate=1e-3, beta_1=0.5, beta_2=0.9, decay_steps=6100),
            discriminator_optimizer=critic_rate,
            ema_decay=0.99,
            pretrain_steps=6000,
        ),
        runtime=schema.RuntimeConfig(distribution_strategy="one_device", seed=1),
    )


def inpainting_folder256():
    """Inpainting with AN on any folder of photographs at 256 x 256, in the settings of Paris StreetView.

    Command: python -m trainers.train_inpainting --experiment=inpainting_folder256 --mode=train_and_eval
        --model_dir=runs/paris --params_override=task.train_data.path=DIR,task.validation_data.path=DIR
    DIR holds `train` and `test`, folders of images. Free-form holes: task.masks.kinds=[strokes].
    Cost: not measured on a GPU.
    Result: not run to its end. Its first steps run in the tests.
    """
    return _inpainting256({"dataset": "folder", "path": "data"}, "test")


def inpainting_tfds256():
    """`inpainting_folder256` on a data set of TensorFlow Datasets, by default Places365.

    Command: python -m trainers.train_inpainting --experiment=inpainting_tfds256 --mode=train_and_eval --model_dir=DIR
        --params_override=task.train_data.name=NAME,task.validation_data.name=NAME
    Cost: not measured; Places365 is 29 GB.
    Result: not run to its end. Its first steps run in the tests, on data of the same form.
    """
    return _inpainting256({"dataset": "tfds", "name": "places365_small"}, "validation")


def _inpainting256(data, validation_split):
    rate = {"learning_rate": 1e-4, "beta_1": 0.5, "beta_2": 0.9}
    return schema.InpaintingConfig(
        task=schema.InpaintingTaskConfig(
            train_data=schema.DataConfig(global_batch_size=16, random_crop=True, random_flip=True, **data),
            validation_data=schema.DataConfig(split=validation_split, global_batch_size=16, **data),
        ),
        trainer=schema.TrainerConfig(
            train_steps=200_000,
            steps_per_loop=50,
            discriminator_steps=5,
            generator_optimizer=schema.OptimizerConfig(**rate),
            discriminator_optimizer=schema.OptimizerConfig(**rate),
            pretrain_steps=40_000,
        ),
    )


def inpainting_photographs32():
    """Inpainting with AN on a folder of photographs, on 32 x 32 squares of many scales; the first of three stages.

    Command: python -m trainers.train_inpainting --experiment=inpainting_photographs32 --mode=train_and_eval
        --model_dir=runs/photographs32 --params_override=task.train_data.path=DIR,task.validation_data.path=DIR
    DIR holds `train` and `test`, folders of images. How an edge goes on is learned in small squares first, where a step
    takes least; each stage starts from the one before.
    Cost and result: 42 minutes of one shared core in bfloat16. L1 in the hole of the 59 test photographs 0.0714 in
    strokes and 0.1083 in squares, 7.1 % and 5.9 % below the smooth fill.
    """
    return _photographs(32, batch_size=32, learning_rate=1e-3, train_steps=4_000)


def inpainting_photographs64():
    """The second stage of `inpainting_photographs32`, on 64 x 64 squares.

    Command: python -m trainers.train_inpainting --experiment=inpainting_photographs64 --mode=train_and_eval
        --model_dir=runs/photographs64 --params_override=task.train_data.path=DIR,task.validation_data.path=DIR,
        task.init_checkpoint=runs/photographs32
    In maps of 32 pixels the outer taps of dilations 8 and 16 never meet a pixel, so that these begin here untrained.
    Cost and result: 31 minutes for 3,770 steps; 0.0747 and 0.1156 after 3,000, 8.8 % and 5.8 % below the smooth fill.
    """
    return _photographs(64, batch_size=16, learning_rate=5e-4, train_steps=4_000)


def inpainting_photographs128():
    """The third stage of `inpainting_photographs32`, on 128 x 128 squares.

    Command: python -m trainers.train_inpainting --experiment=inpainting_photographs128 --mode=train_and_eval
        --model_dir=runs/photographs128 --params_override=task.train_data.path=DIR,task.validation_data.path=DIR,
        task.init_checkpoint=runs/photographs64
    Cost and result: 23 minutes; 0.0810 and 0.1249, 7.5 % and 3.5 % below the smooth fill, 12 % and 9 % below the best
    of the classical fills. These weights are `pretrained/inpainting_photos`.
    """
    return _photographs(128, batch_size=8, learning_rate=3e-4, train_steps=2_000, decay_steps=2_000)


def _photographs(resolution, batch_size, learning_rate, train_steps, decay_steps=0):
    scale, data = resolution / 64, {"dataset": "folder", "path": "data"}
    rates = {"learning_rate": learning_rate, "beta_1": 0.9, "beta_2": 0.99, "decay_steps": decay_steps}
    return schema.InpaintingConfig(
        task=schema.InpaintingTaskConfig(
            model=schema.InpaintingModelConfig(
                resolution=resolution,
                generator=schema.InpaintingGeneratorConfig(base_channels=16, first_fill="diffusion"),
                critic=schema.CriticConfig(base_channels=32, attention="none"),
            ),
            losses=schema.InpaintingLossesConfig(discount=1.0, known=0.0),
            masks=schema.MaskConfig(
                kinds=["strokes", "strokes", "text", "center", "center", "box", "blob", "border"],
                size=resolution // 2,
                max_shrink=resolution // 4,
                num_strokes=4,
                max_vertices=6,
                max_length=24.0 * scale,
                min_width=3.0 * scale,
                max_width=12.0 * scale,
            ),
            train_data=schema.DataConfig(
                global_batch_size=batch_size,
                random_crop=True,
                random_crop_area=[0.04, 0.8],
                random_flip=True,
                cache=True,
                **data,
            ),
            validation_data=schema.DataConfig(split="test", global_batch_size=8, **data),
        ),
        trainer=schema.TrainerConfig(
            train_steps=train_steps,
            steps_per_loop=20,
            checkpoint_interval=250,
            summary_interval=250,
            validation_interval=1000,
            max_to_keep=2,
            discriminator_steps=5,
            generator_optimizer=schema.OptimizerConfig(**rates),
            discriminator_optimizer=schema.OptimizerConfig(learning_rate=2e-4, beta_1=0.5, beta_2=0.9),
            ema_decay=0.998,
            pretrain_steps=train_steps,
        ),
        runtime=schema.RuntimeConfig(distribution_strategy="one_device", seed=1),
    )


EXPERIMENTS = {
    experiment.__name__: experiment
    for experiment in (
        gan_digits32,
        gan_cifar10,
        gan_cifar10_small,
        gan_pairs32,
        gan_pairs64,
        gan_imagenet128,
        gan_imagenet128_sagan,
        gan_imagenet128_sngan,
        gan_folder,
        inpainting_photos64,
        inpainting_folder256,
        inpainting_tfds256,
        inpainting_photographs32,
        inpainting_photographs64,
        inpainting_photographs128,
    )
}
