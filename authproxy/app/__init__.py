"""The wiring: a configuration becomes token sources, routes and listeners. Here alone the wings meet."""
