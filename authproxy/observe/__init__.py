"""What is known of requests once they are answered: counters and the access log."""
