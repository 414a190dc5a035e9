"""Batch normalisation that passes over its map fewer times in training."""

from typing import Optional

from keras_an.backend import Tensor, fused_batch_norm, keras, register_serializable


# Of Keras's name, since files of weights name layers by their classes: they serve this layer and Keras's alike.
@register_serializable(package="keras_an")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, in training by TensorFlow's kernel for it where that runs.

    Keras 2 does so by itself; Keras 3 computes the moments, the difference and the products one after the other. An
    empty map has no moments, and leaves the averages as they are, which Keras's own layer makes NaN.
    """

    def call(self, inputs: Tensor, training: Optional[bool] = None, mask: Optional[Tensor] = None) -> Tensor:
        training = training and (self.synchronized or 0 not in inputs.shape)  # replicas wait for each other
        fused, plain = None, mask is None and not (self.synchronized or getattr(self, "renorm", False))
        if training and self.trainable and plain:
            scale, offset = self.gamma if self.scale else None, self.beta if self.center else None
            fused = fused_batch_norm(inputs, self.axis, scale, offset, self.epsilon)
        if fused is None:
            return super().call(inputs, training=training, **({} if mask is None else {"mask": mask}))
        outputs, mean, variance = fused
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return outputs
