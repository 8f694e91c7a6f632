"""What every room may use: errors, the registry of parts, search spaces, seeded generators."""
