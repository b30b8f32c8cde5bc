"""One fine-tuning job from a YAML file: `settings` reads it, `run` trains, `checkpoints` resumes, `output` writes."""
