"""Trains the inpainting networks.

python -m trainers.train_inpainting --experiment=inpainting_photos64 --mode=train_and_eval --model_dir=runs/inpainting
"""

from absl import app

from trainers import program

program.define_flags()


def main(argv):
    program.main(argv, "inpainting", build)


def build(params, model_dir, profile_steps=None):
    """The training loop that `params` describes; writes nothing.

    Raises:
        ValueError: where networks, masks, devices and data do not go together.
    """
    from trainers.data import input_pipelines, stroke_check
    from trainers.evaluation import inpainting_evaluator
    from trainers.training import distribution, inpainting_trainer, loop

    distribution.set_up_runtime(params.runtime)
    stroke_check.check(params)
    strategy = distribution.get_strategy(params.runtime)
    data, model = params.task.train_data, params.task.model
    input_pipelines.check(strategy, data, model.resolution, validation_data=params.task.validation_data)
    trainer = inpainting_trainer.InpaintingTrainer(params, strategy)
    trainer.start_from_another(model_dir)

    def make_evaluator():
        return inpainting_evaluator.InpaintingEvaluator(params, trainer.ema_generator, trainer.critics)

    def make_dataset(start_batch):
        return input_pipelines.training_dataset(
            strategy,
            data,
            model.resolution,
            params.runtime.seed,
            start_batch,
            image_channels=model.image_channels,
        )

    return loop.TrainingLoop(trainer, make_evaluator, make_dataset, params, model_dir, profile_steps)


if __name__ == "__main__":
    app.run(main)
