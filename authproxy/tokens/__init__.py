"""The life of a token: cached, renewed once for all who wait, left alone for a while when it fails."""
