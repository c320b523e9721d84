"""The installed command on real sockets: what goes in, what comes out, byte for byte."""
