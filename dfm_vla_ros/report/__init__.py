"""What was measured, as one HTML page that opens without a server."""
