"""Every method on the same sounds."""
