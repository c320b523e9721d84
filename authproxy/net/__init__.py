"""What both wings need of the network: HTTP proxies, our own listeners, and how a connection is ended."""
