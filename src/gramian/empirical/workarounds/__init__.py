"""Ways round torch's slowness: faster products, convolutions' gradients, memory that is used again."""
