"""Kernels of the networks in paired_networks.py by neural-tangents, in its own environment and in float64.

Arguments: names as JSON (an empty list: all), inputs .npz, answers .npz. Prints the versions, what it refuses, and what
it warns of, as JSON. It goes on after a refusal: that is an answer too.
"""

import json
import sys
import warnings
from importlib.metadata import version
from types import SimpleNamespace

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import paired_architectures  # noqa: E402, F401
import paired_layers  # noqa: E402, F401  (adds its networks to those of paired_networks)
import paired_networks  # noqa: E402
from neural_tangents import stax  # noqa: E402  (after the switch to float64)


def pieces(twin):
    """stax, with the layers that have weights under the twin's law."""
    sigma_w, sigma_b = twin.law
    given = {"b_std": sigma_b if sigma_b > 0 else None, "parameterization": twin.parametrization}

    def dense(width=8, scale=1.0):
        return stax.Dense(width, W_std=sigma_w * scale, **given | ({"b_std": sigma_b * scale} if sigma_b else {}))

    def conv(window, strides, padding):
        axes = "DHW"[-len(window) :]
        order = {"dimension_numbers": (f"N{axes}C", f"{axes}IO", f"N{axes}C")}
        return stax.Conv(8, window, strides, padding, W_std=sigma_w, **order, **given)

    def transposed(window, strides, padding):
        axes = "DHW"[-len(window) :]
        order = {"dimension_numbers": (f"N{axes}C", f"{axes}IO", f"N{axes}C")}
        return stax.ConvTranspose(8, window, strides, padding, W_std=sigma_w, **order, **given)

    def local():
        order = {"dimension_numbers": ("NWC", "WIO", "NWC")}
        return stax.ConvLocal(8, (3,), (1,), "VALID", W_std=sigma_w, **order, **given)

    def matrix(rows, columns):
        return jax.numpy.asarray(inputs["matrix"])[:rows, :columns]

    def attention(mechanism, heads=1, **positions):
        std = dict.fromkeys(("W_key_std", "W_value_std", "W_query_std", "W_out_std"), sigma_w)
        return stax.GlobalSelfAttention(8, 8, 8, heads, attention_mechanism=mechanism, b_std=given["b_std"],
                                        **std, **positions)  # fmt: skip

    def joined(end):
        def layer(*branches):
            return stax.serial(stax.FanOut(len(branches)), stax.parallel(*branches), end())

        return layer

    own = {name: getattr(stax, name) for name in dir(stax) if not name.startswith("_")}
    return SimpleNamespace(**own, jnp=jax.numpy, D=dense, C=conv, L=local, matrix=matrix,
                           CT=transposed, A=attention, add=joined(stax.FanInSum),
                           mul=joined(stax.FanInProd), cat=joined(stax.FanInConcat))  # fmt: skip


def kernels(twin, x, y, adjacency, graphs):
    """{key: kernel} of x against y, and of x alone."""
    kernel = twin.stax(pieces(twin))[2]
    made = {}
    for pair, a, b in (("xy", x, y), ("xx", x, None)):
        more = {}
        if twin.graph:  # a pattern for each input; edges go from the first axis to the second
            pattern = [jax.numpy.stack([adjacency.T] * len(v)) for v in (a, a if b is None else b)]
            if twin.graph == "each":
                pattern = [graphs["x"], graphs["x" if b is None else "y"]]
            more = {"pattern": tuple(pattern)}
        found = kernel(a, b, get=("nngp", "ntk"), **more)
        made[f"nngp/{pair}"], made[f"ntk/{pair}"] = np.asarray(found.nngp), np.asarray(found.ntk)
    return made


wanted, inputs = json.loads(sys.argv[1]), np.load(sys.argv[2])
answers, refused, warned = {}, {}, {}
for twin in (*paired_networks.TWINS, *paired_networks.DIFFERENT):
    if wanted and twin.name not in wanted:
        continue
    x, y = (inputs[f"{twin.name}/{side}"] for side in "xy")
    if not twin.last:
        x, y = np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            graphs = {side: jax.numpy.asarray(inputs[f"{twin.name}/{side}/graph"]).swapaxes(1, 2)
                      for side in ("xy" if twin.graph == "each" else "")}  # fmt: skip
            adjacency = jax.numpy.asarray(inputs["adjacency"])
            made = kernels(twin, jax.numpy.asarray(x), jax.numpy.asarray(y), adjacency, graphs)
            answers |= {f"{twin.name}/{key}": value for key, value in made.items()}
        except Exception as error:
            refused[twin.name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    warned[twin.name] = sorted({str(w.message).splitlines()[0][:200] for w in caught})
np.savez(sys.argv[3], **answers)
versions = {"neural_tangents": version("neural-tangents"), "jax": jax.__version__}
print(json.dumps(versions | {"refused": refused, "warned": warned}))
