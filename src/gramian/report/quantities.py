"""One sentence a quantity: what it is, and which values are good."""

from __future__ import annotations

_ABOUT = {
    "loss": "What training minimizes, summed over the training rows: the lower the better. A prediction that lies on "
    "the measured curve says that training went as the kernel says.",
    "spectrum": "How fast each direction of the outputs is learned: the larger an eigenvalue, the faster. Good: a "
    "smallest one well above 0, and the three curves close together.",
    "moved": "How far weights, activation signs and the kernel are from where they started. Near 0 %, the network "
    "trains as its linearization does; far from it, it learns features. Neither is better in itself.",
    "test": "Error on rows that training did not see: the lower the better.",
    "width": "How far the kernel of a network of this width is from the kernel of infinitely wide ones: the lower, the "
    "better what is said about the limit describes the network.",
    "accuracy": "Share of rows whose class is right: the higher the better; on training rows 100 % is possible unless "
    "equal rows have different labels.",
    "alignment": "Cosine between the network's kernel and that of the labels (1 for equal ones): 1 is best, as the "
    "kernel then separates the classes; values that rise say that the network learns features.",
    "probe-gram_min": "The slowest rate at which a direction of the outputs is learned: good well above 0, and steady; "
    "at 0 the kernel can't rule out that training stalls.",
    "probe-gram_max": "The fastest rate at which a direction of the outputs is learned: 2 divided by it is "
    "about the largest stable learning rate of plain gradient descent on the summed squared loss, so a value that "
    "does not grow is good.",
    "probe-gradient_over_loss": "How strongly the gradient pulls for the loss that is left: good well above 0. At 0 "
    "with loss left, training is stuck.",
    "probe-linearization_gap": "Distance of the outputs from those of the network linearized at its start, at the same "
    "weights, over the size of the outputs: near 0 % the kernel describes training; near 100 % and above it does not.",
    "probe-semi_smoothness": "What the gradient leaves unexplained of the loss's change in a step, over what the "
    "curvature at the start allows: at most 1 where theory's smoothness holds; above it the loss is more curved.",
    "probe-spectral_distance": "Largest singular value of what training added to a weight matrix, in the weights that "
    "this network has (certificates state it in their paper's parametrization, which is another unit): small values "
    "keep the kernel where it was.",
    "probe-kernel_cosine": "Whether the kernel still points where it did at the start, whatever its size: 1 is "
    "unchanged; lower values say that the network learned features.",
    "probe-edge": "The learning rate over the largest stable one: below 1 steps are stable; above it the loss grows "
    "along the steepest direction.",
}


def about(name: str) -> str:
    """A sentence on a picture's quantity and its good values; "" for a quantity that is not known here."""
    return _ABOUT.get(name, "")
