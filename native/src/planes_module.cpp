#include "planes_module.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>
#include <stdexcept>

#include "planes.h"

namespace gramian {
namespace {

namespace nb = nanobind;

using Ints = nb::ndarray<const Int, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Reals = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Missing = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T>
using Pixels = nb::ndarray<const T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <class T>
using Tile = nb::ndarray<T, nb::ndim<2>, nb::device::cpu>;

void need(bool holds, const char *what) {
    if (!holds) throw std::invalid_argument(what);
}

template <class T>
bool compute(const Ints &ints, const Reals &reals, const Pixels<T> &x, const std::optional<Pixels<T>> &y,
             const Tile<T> &nngp, const std::optional<Tile<T>> &ntk, int threads, const Missing &missing) {
    const Int n = Int(x.shape(0)), m = Int(y ? y->shape(0) : x.shape(0));
    need(ints.shape(0) >= 16 && Int(ints.shape(0)) == 3 + 13 * ints(2) && ints(0) == Int(x.shape(1)), "not a program");
    need(Int(missing.shape(0)) == ints(2) && missing.shape(1) == 2, "no place for what is missing");
    need(ints(6) * ints(7) == Int(x.shape(2)), "images of another size");
    need(!y || (y->shape(1) == x.shape(1) && y->shape(2) == x.shape(2)), "images of two sizes");
    for (const Tile<T> *tile : {&nngp, ntk ? &*ntk : &nngp}) {
        need(Int(tile->shape(0)) == n && Int(tile->shape(1)) == m && tile->stride(1) == 1, "a result of another shape");
        need(tile->stride(0) == nngp.stride(0), "results with different strides");
    }
    nb::gil_scoped_release released;
    return planes<T>(ints.data(), reals.data(), x.data(), n, y ? y->data() : nullptr, m, nngp.data(),
              ntk ? ntk->data() : nullptr, nngp.stride(0), threads,
                     missing.data());
}

}  // namespace

void add_planes(nb::module_ &m) {
    const char *says = "One tile of both kernels of a convolutional network; called by gramian.limit.planes.";
    using nb::arg;
    m.def("planes", &compute<float>, arg("ints"), arg("reals"), arg("x"), arg("y").none(), arg("nngp"),
          arg("ntk").none(), arg("threads"), arg("missing"), says);
    m.def("planes", &compute<double>, arg("ints"), arg("reals"), arg("x"), arg("y").none(), arg("nngp"),
          arg("ntk").none(), arg("threads"), arg("missing"), says);
}

}  // namespace gramian
