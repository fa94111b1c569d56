"""Class masks: whether the mask of each class keeps that class, and no other, of a mixture of two."""
