"""The empirical NTK by structured contraction: factors of layers, in bounded memory, without a Jacobian."""
