"""Comparisons of trained variants: what differs is data, rows of a table are what it gives."""
