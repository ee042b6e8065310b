// Kernels of convolutional networks, a tile of the Gram matrix at a time.
#pragma once

#include "planes_rows.h"

namespace gramian {

// NNGP and (unless null) NTK of n images x with m images y; y null: with themselves, symmetric, the diagonal exact.
// Images are (n, channels, positions), results (n, m) with rows `stride` apart. The program: see planes_program.h.
template <class T>
void planes(const Int *ints, const double *reals, const T *x, Int n, const T *y, Int m, T *nngp, T *ntk, Int stride,
            int threads);

}  // namespace gramian
