"""What both wings need of the network: the way to a server, what stands in it, how it ends."""
