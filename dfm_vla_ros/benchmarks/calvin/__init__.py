"""CALVIN: chains of five tasks in a row, by the official list, oracle and budget."""
