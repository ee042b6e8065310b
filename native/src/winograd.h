// Convolutions with 3x3 windows, and their weights' gradients, by Winograd's minimal filtering with tiles of 4x4: 36
// multiplications where the sums have 144 (Lavin & Gray 2015, arXiv:1509.09308). Plain data, no functions: files of
// several instruction sets share it.
//
// In one dimension, four results of three weights g and six inputs d are y = A' [(G g) o (B' d)]; the gradient of g is
// G' [(A y) o (B' d)] by the same identity. The interpolation points are 0, +-5/8, +-3/2 and infinity: in float32, with
// 64 channels, errors are 8e-7 of the results' size. The usual points 0, +-1, +-2 give 1.7e-6, the plain sums 2e-7.
#pragma once

namespace gramian {

using Int = long long;

// Images (n, h, w, c) that are read through windows of 3x3, with `pad` zeros on each side: `high` x `wide` places, in
// `rows` x `columns` tiles of 4x4.
struct Windows {
    const float *x;
    Int step;  // from image to image
    Int h, w, c, pad, high, wide, rows, columns;
};

// out (n, high, wide, d) from the weights u (36, c, d) in Winograd's domain.
struct Filtering {
    Windows in;
    const float *u;
    Int d;
    float *out;
};

// out (n, k, d, 9, c): sums over places of b (n, k, high, wide, d), times what the window sees there.
struct Gradient {
    Windows in;
    const float *b;
    Int step_n, step_k;  // of b
    Int k, d;
    float *out;
};

}  // namespace gramian
