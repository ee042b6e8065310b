"""Products with the Jacobian of a module by its parameters: J u (pushforward), J^T v (pullback), and its rows."""
