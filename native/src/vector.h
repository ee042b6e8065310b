// Kernels of networks on vectors, a tile of the Gram matrix at a time.
#pragma once

#include <nanobind/nanobind.h>

namespace gramian {

void add_vector(nanobind::module_ &m);

}  // namespace gramian
