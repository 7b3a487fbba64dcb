"""From episodes to a checkpoint folder."""
