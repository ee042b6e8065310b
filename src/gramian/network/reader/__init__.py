"""From the graph that `torch.export` gives to the steps of an architecture."""
