"""A toy on which decoders can be compared in minutes: sequences with long-range constraints."""
