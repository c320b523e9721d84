"""A small HTTP/1.1 client that changes nothing: it sends the bytes it is given, and hands on what comes."""
