"""The losses of TF-GAN with the networks of this package: a class-conditional GAN of handwritten digits.

Command: python -m examples.tfgan_losses
Cost: 20 seconds on 2 CPU cores.
Result: a classifier of real digits takes 0.852 of the generated ones for what they should be after 200 steps with the
hinge losses, 0.803 with the non-saturating ones, and 0.097 before training (TensorFlow 2.21).
"""

# %% 1,797 handwritten digits of 8 x 8 pixels, in [-1, 1].
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import keras_an

# Where TensorFlow has no `tf.estimator` any more, `import tensorflow_gan` fails, but its losses work. The trainers load
# them past that; on TensorFlow 2.15 it is `tensorflow_gan.losses.losses_impl` itself.
from trainers.evaluation import tfgan

BATCH, LATENT, STEPS = 64, 32, 200
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 8 - 1).astype(np.float32)
labels = labels.astype(np.int32)
losses = tfgan.losses()

# %% A judge that knows real digits only, by which generated ones are measured.
judge = LogisticRegression(max_iter=500).fit(images.reshape(-1, 64), labels)


def label_accuracy(generator, count=1000):
    """The share of generated digits that the judge takes for what they should be."""
    wanted = np.arange(count, dtype=np.int32) % 10
    z = np.random.default_rng(0).normal(size=(count, LATENT)).astype(np.float32)
    generated = generator.predict([z, wanted], batch_size=count, verbose=0)
    return np.mean(judge.predict(generated.reshape(-1, 64)) == wanted)


# %% One training for any pair of losses: one step of the discriminator, then one of the generator.
def train(discriminator_loss, generator_loss):
    tf.keras.utils.set_random_seed(0)
    options = {"resolution": 8, "num_classes": 10, "base_channels": 32, "image_channels": 1, "num_entities": 4}
    generator = keras_an.models.residual_generator(latent_dim=LATENT, attention_blocks=[1], **options)
    discriminator = keras_an.models.projection_discriminator(attention_blocks=[1], **options)
    optimizers = [tf.keras.optimizers.Adam(2e-3, beta_1=0.0, beta_2=0.9) for _ in range(2)]
    for optimizer, network in zip(optimizers, (generator, discriminator)):
        optimizer.build(network.trainable_variables)

    @tf.function
    def step(real, label):
        z = tf.random.normal((BATCH, LATENT))
        with tf.GradientTape() as tape:
            fake = discriminator([generator([z, label], training=True), label], training=True)
            loss = discriminator_loss(discriminator([real, label], training=True), fake)
            loss += tf.add_n(discriminator.losses)  # the orthogonality of the entities
        variables = discriminator.trainable_variables
        optimizers[1].apply_gradients(zip(tape.gradient(loss, variables), variables))
        with tf.GradientTape() as tape:
            loss = generator_loss(discriminator([generator([z, label], training=True), label], training=True))
            loss += tf.add_n(generator.losses)
        variables = generator.trainable_variables
        optimizers[0].apply_gradients(zip(tape.gradient(loss, variables), variables))

    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=0).repeat()
    before = label_accuracy(generator)
    for batch in data.batch(BATCH).take(STEPS):
        step(*batch)
    return before, label_accuracy(generator)


# %% The hinge losses of TF-GAN are those of this package.
real, fake = np.random.default_rng(0).normal(size=(2, 256, 1)).astype(np.float32)
theirs = losses.wasserstein_hinge_discriminator_loss(real, fake), losses.wasserstein_hinge_generator_loss(fake)
ours = keras_an.losses.discriminator_hinge_loss(real, fake_logits=fake), keras_an.losses.generator_hinge_loss(fake)
print(f"hinge losses differ from keras_an.losses by {np.max(np.abs(np.subtract(theirs, ours))):.1e} at most")

# %% Training with two pairs of TF-GAN's.
for name, pair in {
    "hinge": (losses.wasserstein_hinge_discriminator_loss, losses.wasserstein_hinge_generator_loss),
    "non-saturating": (losses.modified_discriminator_loss, losses.modified_generator_loss),
}.items():
    before, after = train(*pair)
    print(f"{name}: label accuracy {before:.3f} before training, {after:.3f} after {STEPS} steps")
