#pragma once

#include <nanobind/nanobind.h>

namespace gramian {

void add_winograd(nanobind::module_ &m);

}  // namespace gramian
