"""Tokenizers without torch: actions, proprioception, text. Each is one JSON file with a hash."""
