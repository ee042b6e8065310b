"""Random projections of gradients, whose Gram matrix is the tangent kernel up to a stated error."""
