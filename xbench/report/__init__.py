"""What a run draws."""
