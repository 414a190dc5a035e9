"""What the tests of inpainting share: a small configuration."""

from gan_test_case import override_of
from trainers import configs

SMALL = ",".join(
    [
        "task.model.resolution=32",
        "task.model.generator.base_channels=4",
        "task.model.generator.num_entities=3",
        "task.model.critic.base_channels=2",
        "task.masks.size=16",
        "task.masks.max_shrink=8",
        "task.masks.num_strokes=2",
        "task.masks.max_vertices=2",
        "task.train_data.global_batch_size=4",
        "task.validation_data.global_batch_size=4",
        "task.evaluation.num_images=6",
        "trainer.discriminator_steps=1",
    ]
)


def small_params(experiment="inpainting_photos64", **overrides):
    """The demo experiment with tiny networks; `overrides` by key, with `__` for a dot."""
    return configs.resolve(experiment, params_override=override_of(SMALL, **overrides))
