"""One training loop for whatever is Trainable, its schedules, and the device it computes on."""
