"""The limit NTK by neural-tangents, run in an environment of its own; prints what it cost as JSON.

Arguments: a network as JSON (net: mlp, cnn-flat or cnn-pooled; hidden; dtype; repeats), inputs .npy, answer .npy.
"""

import json
import sys
from importlib.metadata import version

import jax
import numpy as np
from timing import measure

spec = json.loads(sys.argv[1])
jax.config.update("jax_enable_x64", spec["dtype"] == "float64")

from neural_tangents import stax  # noqa: E402  (after the switch to float64)

layer = {
    "mlp": lambda: stax.Dense(1, W_std=2**0.5, b_std=None),
    "cnn-flat": lambda: stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=None),
    "cnn-pooled": lambda: stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=None),
}[spec["net"]]
head = {"mlp": [], "cnn-flat": [stax.Flatten()], "cnn-pooled": [stax.GlobalAvgPool()]}[spec["net"]]
hidden = [part for _ in range(spec["hidden"]) for part in (layer(), stax.Relu())]
kernel = jax.jit(stax.serial(*hidden, *head, stax.Dense(1, W_std=1.0, b_std=None))[2], static_argnames="get")

x = np.load(sys.argv[2]).astype(spec["dtype"])
x = jax.numpy.asarray(x if x.ndim == 2 else x.transpose(0, 2, 3, 1))
np.save(sys.argv[3], np.asarray(kernel(x, None, get="ntk")))
cost = measure(lambda: kernel(x, None, get="ntk").block_until_ready(), spec["repeats"])
print(json.dumps(cost | {"neural_tangents": version("neural-tangents"), "jax": jax.__version__}))
