"""The empirical NTK by neural-tangents, run in an environment of its own; prints what each way cost as JSON.

Arguments: a spec as JSON (net: mlp or cnn; ways; dtype; repeats), an .npz with the inputs and torch's own weights, and
answer .npy. The answer is the first way's, shape (n, m, C, C).
"""

import json
import sys
from importlib.metadata import version

import jax
import numpy as np
from timing import measure

spec = json.loads(sys.argv[1])
jax.config.update("jax_enable_x64", spec["dtype"] == "float64")

import neural_tangents as nt  # noqa: E402  (after the switch to float64)
from jax._src.interpreters import ad  # noqa: E402
from neural_tangents._src import empirical  # noqa: E402

# its structured derivatives look for names where jax 0.4.30 no longer has them
empirical.ad, ad.config.jax_enable_checks = ad, False

WAYS = {
    "structured derivatives": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    "Jacobian contraction": nt.NtkImplementation.JACOBIAN_CONTRACTION,
    "NTK-vector products": nt.NtkImplementation.NTK_VECTOR_PRODUCTS,
}
file = np.load(sys.argv[2])
x = jax.numpy.asarray(file["x"].astype(spec["dtype"]))
# in the order in which they are used: a transposition inside the function hides a layer's structure from it
AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
arrays = [file[f"p{i}"].astype(spec["dtype"]) for i in range(len(file.files) - 1)]
theta = [jax.numpy.asarray(p.transpose(AXES[p.ndim])) for p in arrays]


def mlp(theta, x):
    """Linear maps with ReLU between them."""
    for i in range(0, len(theta), 2):
        x = x @ theta[i] + theta[i + 1]
        x = jax.nn.relu(x) if i + 2 < len(theta) else x
    return x


def cnn(theta, x):
    """3x3 convolutions with ReLU, global average pooling, one linear map; channels last, as is fast here."""
    x = x.transpose(0, 2, 3, 1)
    for i in range(0, len(theta) - 2, 2):
        x = jax.lax.conv_general_dilated(x, theta[i], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + theta[i + 1])
    return x.mean((1, 2)) @ theta[-2] + theta[-1]


rows = {}
for k, way in enumerate(spec["ways"]):
    kernel = nt.empirical_ntk_fn(
        {"mlp": mlp, "cnn": cnn}[spec["net"]], trace_axes=(), vmap_axes=0, implementation=WAYS[way]
    )
    kernel = jax.jit(kernel, static_argnums=1)
    if k == 0:
        np.save(sys.argv[3], np.asarray(kernel(x, None, theta)))
    cost = measure(lambda kernel=kernel: kernel(x, None, theta).block_until_ready(), spec["repeats"])
    rows[way] = cost | {"neural_tangents": version("neural-tangents"), "jax": jax.__version__}
print(json.dumps(rows))
