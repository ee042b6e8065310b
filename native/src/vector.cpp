// Kernels of networks on vectors, a tile of the Gram matrix at a time: what Python calls.
#include "vector.h"

#include "isa.h"

GRAMIAN_DECLARE(float half(float x);)

namespace gramian {

void add_vector(nanobind::module_ &m) {
    m.def("half", [](float x) { return GRAMIAN_CHOOSE(half)(x); });
}

}  // namespace gramian
