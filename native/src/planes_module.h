// Kernels of convolutional networks: what Python calls.
#pragma once

#include <nanobind/nanobind.h>

namespace gramian {

void add_planes(nanobind::module_ &m);

}  // namespace gramian
