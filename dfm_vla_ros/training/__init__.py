"""From data sets to a checkpoint folder."""
