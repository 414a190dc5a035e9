"""What the tests of inpainting share: a small configuration, a small export."""

from gan_test_case import override_of
from keras_an.models import inpainting_generator
from tools.exporting import exports
from tools.exporting.inpainting_serving import InpaintingServing
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


def write_generator(path, num_entities=3, **options):
    """Exports a small generator whose attention does something."""
    generator = inpainting_generator(4, num_entities=num_entities, **options)
    for layer in generator.layers:
        if layer.name == "attentive_attention":
            layer.residual_weight.assign(0.5)
    exports.write("saved_model", str(path), generator, InpaintingServing(generator))
    return path
