"""A study -> what people open."""
