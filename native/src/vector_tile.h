// A tile of the Gram matrix of a network on vectors: what goes in and what comes out. Plain data, no functions, so that
// files compiled for different instruction sets may share it.
//
// Of every value of the network the loops carry two numbers per pair of inputs: u = 1 - K / s and T = Theta / s, where
// s = sqrt(q1 q2) and q1, q2 are the two variances; u is folded at opposite values, see vector_values.h. It is computed
// as a difference only where it is large (and by erf), so that nearly equal and opposite inputs keep their digits. What a layer needs of q1 and q2 are factors, one of the row times one of the
// column; Python computes them in double (gramian/limit/vector_inputs.py, which gives the formulas).
#pragma once

namespace gramian {

enum Kind : int {
    affine = 0,  // no bias: T += p0 (1 - u)
    biased = 1,  // factors rho, g, sin, cos: T = rho (T + p0 (1 - u)) + g, u = rho u + 2 y^2
    slopes = 2,  // ReLU and its kin: u += p0 (h - u), T *= 1 - p0 t / pi
    sum = 3,     // factors wa, wb, ma, mb: the sizes of both parts and their means, over sqrt(q); see run_sum
    jump = 4,    // sign and step: u = p0 t / pi, T = 0
    erf = 5,     // factors cos, sin, sin of half, cos of half, 1 / sqrt(q'), slope: see run_erf
    series = 6,  // powers of 1 - u; p0 terms after the first two, p1 = 0: all, 2: even, 3: odd ones: see run_series
    table = 7,   // Chebyshev series in the angle: p0 terms of P factors, p1 = 3 P + form, and 64 of an odd function: see run_table
};

// dst, a and b are registers; the op's factors start at row `factor` of the tables.
struct Op {
    int kind, dst, a, b, factor;
    double p0, p1;
};

template <typename T>
struct Tile {
    const Op *ops;
    int n_ops, out;  // `out`: the register of the result
    int rows, cols;
    const T *cosine;  // of the inputs, (rows, cols); or 1 - cosine with `gaps`; strides in numbers
    long cosine_stride;
    bool gaps;  // 1 - |cosine|, below 0 where the cosine is
    const T *row_factors, *col_factors;  // (factor, row) and (factor, column); the last factor is sqrt(q) of the result
    long row_stride, col_stride;
    int scale;  // number of that factor
    T *nngp, *ntk;  // (rows, cols) of the results; ntk null if it is not asked for
    long out_stride;
    bool diagonal;  // rows and columns are the same inputs: only columns from the row's own on are computed
    const T *x, *y;  // the inputs, for pairs whose 1 - cosine is below `near`
    long features;
    const double *x_inverse, *y_inverse;  // 1 / norm, 0 where the norm is 0
    double near;
};

}  // namespace gramian
