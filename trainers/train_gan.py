"""Trains the class-conditional GAN.

python -m trainers.train_gan --experiment=gan_digits32 --mode=train_and_eval --model_dir=runs/demo
"""

from absl import app

from trainers import program

program.define_flags()


def main(argv):
    program.main(argv, "gan", build)


def build(params, model_dir, profile_steps=None):
    """The training loop that `params` describes; writes nothing.

    Raises:
        ValueError: where networks, devices and data do not go together.
    """
    from trainers import configs
    from trainers.data import classes, input_pipelines
    from trainers.evaluation import gan_evaluator
    from trainers.training import distribution, gan_trainer, loop, run_directory

    distribution.set_up_runtime(params.runtime)
    strategy = distribution.get_strategy(params.runtime)
    data, model = params.task.train_data, params.task.model
    source = input_pipelines.check(
        strategy, data, model.resolution, num_classes=model.num_classes, validation_data=params.task.validation_data
    )
    if run_directory.has_checkpoint(model_dir):
        classes.check_names(model_dir, source.class_names, "task.train_data")
    if model.num_classes == 0:
        model.num_classes = source.num_classes
        configs.checked(params)
    trainer = gan_trainer.GanTrainer(params, strategy)
    trainer.start_from_another(model_dir)

    def make_evaluator():
        networks = trainer.ema_generator, trainer.discriminator
        return gan_evaluator.GanEvaluator(params, model_dir, *networks, distribution.evaluation_strategy(strategy))

    def make_dataset(start_batch):
        return input_pipelines.training_dataset(
            strategy,
            data,
            model.resolution,
            params.runtime.seed,
            start_batch,
            image_channels=model.image_channels,
            num_classes=model.num_classes,
        )

    return loop.TrainingLoop(
        trainer, make_evaluator, make_dataset, params, model_dir, profile_steps, source.class_names
    )


if __name__ == "__main__":
    app.run(main)
