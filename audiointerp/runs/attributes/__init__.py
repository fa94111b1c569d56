"""The attributes of FLINT: how well they stand for the classifier, and a page where each can be heard."""
