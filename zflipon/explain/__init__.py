"""What in a sequence made a model's call."""
