"""The Jacobian and the tangent kernel as linear maps: products, rows, processes."""
