"""What both wings need of the network: ways to a server, what stands in them, and how a connection is ended."""
