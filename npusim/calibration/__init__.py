"""Numbers of profiles fitted to measured rows."""
