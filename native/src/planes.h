// Kernels of convolutional networks, a tile of the Gram matrix at a time.
#pragma once

namespace gramian {

// NNGP and (unless null) NTK of n images x with m images y; y null: with themselves, symmetric, the diagonal exact. Both
// are (positions, channels)-last arrays: x (n, channels, h, w), results (n, m). The program is that of planes_program.h.
template <class T>
void planes(const long *ints, const double *reals, const T *x, long n, const T *y, long m, T *nngp, T *ntk, int threads);

}  // namespace gramian
