"""What operators and orchestrators see: health now; metrics and the page stand on the same data."""
