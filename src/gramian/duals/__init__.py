"""E phi(u) phi(v) of Gaussian u and v: closed forms, series, tables and quadrature, with their derivatives."""
