"""Models that differ by the order of their units: their symmetries, and how to match them."""
