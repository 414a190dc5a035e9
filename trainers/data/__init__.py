"""Images on their way to a step: sources, decoding, batches, augmentation, masks; nothing that knows a network."""
