"""What TensorBoard shows of Attentive Normalization, and the page "Layouts"; NumPy and tensorboard alone.

It is no part of `keras_an`, because TensorBoard imports the plugin when it starts: it must not wait for Keras, nor fail
where Keras does.
"""
