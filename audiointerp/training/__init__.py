"""The training loop for every `Trainable`, its schedules, and the choice of the device."""
