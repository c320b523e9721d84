"""The life of a token: held, renewed once for all who wait, left alone for a while when it fails."""
