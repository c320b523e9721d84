"""How a token is obtained: one small file a grant, and the runner that carries out what a grant asks for."""
