"""What people share."""
