"""`vistune view`: samples of a data file or of what `generate` wrote, as one HTML page."""
