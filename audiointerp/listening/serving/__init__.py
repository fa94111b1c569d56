"""A local collector of what listeners answer."""
