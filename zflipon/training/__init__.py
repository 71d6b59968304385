"""Training of models from recipes: data, the loop of a stage, calibration, assessment and the model card.

Start at `zflipon.training.pipeline.train`. Settings are in `zflipon.config.training`.
"""
