"""Several processes: the supervisor, the broker that has the tokens, and the channel between them."""
