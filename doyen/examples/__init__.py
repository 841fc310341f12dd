"""Questions and documents → checked, split training examples. Trains nothing."""
