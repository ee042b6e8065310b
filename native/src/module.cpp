// The extension module `gramian._native`: each subject adds its own functions.
#include <nanobind/nanobind.h>

#include "isa.h"
#include "planes_module.h"
#include "vector.h"
#include "winograd_module.h"

NB_MODULE(_native, m) {
    m.doc() = "Hot loops, compiled: of the limit kernels, and of convolutions for the empirical ones.";
    m.def("isa", &gramian::isa_name, "The instructions in use: AVX-512, AVX2, SSE2 or NEON.");
    gramian::add_vector(m);
    gramian::add_planes(m);
    gramian::add_winograd(m);
}
