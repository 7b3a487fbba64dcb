"""Networks and the checkpoint folder."""
