// Kernels of convolutional networks, a tile of the Gram matrix at a time.
#pragma once

#include "planes_rows.h"

namespace gramian {

// NNGP and (unless null) NTK of n images x with m images y; y null: with themselves, symmetric, the diagonal exact.
// Images are (n, channels, positions), results (n, m) with rows `stride` apart. The program: see planes_program.h.
//
// Returns false, with nothing computed, where tables of series lack variances: `missing` then has for each node the
// lowest and the highest that it lacks, or zeros.
template <class T>
bool planes(const Int *ints, const double *reals, const T *x, Int n, const T *y, Int m, T *nngp, T *ntk, Int stride,
            int threads, double *missing);

}  // namespace gramian
