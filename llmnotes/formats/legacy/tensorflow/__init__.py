"""TensorFlow: checkpoints (bundle), and the graphs of SavedModels and frozen models."""
