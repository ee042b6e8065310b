// Loops over one row of a displacement plane: the arithmetic of convolutional networks, compiled for each instruction set.
//
// A row holds `w` positions of `lanes` numbers: one for each of `lanes` images x'_j, against one image x_i. What belongs
// to x_i is one number a position, or `lanes` where each lane has an x of its own (`input_each`, `relu_each`, `erf_each`).
#pragma once

namespace gramian {

using Int = long long;  // sizes and places; `long` has 32 bits on Windows

// Of a linear map along an axis: out[to] += weight in[from].
struct Tap {
    Int to, from;
    double weight;
};

// max(x, 0) + slope min(x, 0), with bend = 1 - slope (or any other), as constants of its dual; all times `scale`. And
// to what is left of the NTK, `mix` times the result is added: what the convolution above would have to add.
template <class T>
struct Bend {
    T h;         // bend^2 / 2
    T lin;       // slope^2 + slope bend
    T slope2;    // slope^2
    T cross;     // slope bend / 2
    T p[20], q[20];  // bend^2 / 2 pi times the coefficients of P and Q
    T scale, mix;
};

// Rows through an activation, one after the other in k and t; t is the NTK, null where it is zero. x and y are what the
// variance q of a position gives: sqrt(q) for the ReLU, 1 / sqrt(1 + 2 q) for erf.
template <class T>
struct DualRow {
    Int w, rows;
    const T *k, *t;
    const T *x, *y;
    Int step_x, step_y;  // from row to row of x and y
    T *ko, *to;
    T *near, *close;  // per lane, positions where rounding decides (k = +-s), and where 1 - |c| < 1e-3: counts to add to
};

// Rows k[tap], t[tap] summed, then over the window along the row: out = p[0] K + p[1] and p[0] T + p[2] K + p[3].
template <class T>
struct BoxRow {
    Int w, out;                     // positions of the input and of the result
    Int taps, start, stride, step;  // position q of the result reads start + stride q + step tap
    const T *const *k, *const *t;    // `rows` of them
    Int rows;
    T *sum_k, *sum_t;  // scratch, w positions
    T *ko, *to;        // to: null if no NTK is wanted
    T p[4];
};

// A plane through a 3x3 convolution with zeros outside and the activation of its result. `dual` is of the first row of
// the result, which may be written where the input lies: a row is written when the sums over the next one are made.
template <class T>
struct Both {
    Int h;
    const T *k, *t;  // the input
    const T *zeros;  // a row of them
    T *sums;         // scratch, four rows
    T p[4];          // as in BoxRow
    DualRow<T> dual;
};

// An activation by its Hermite series. `a` are of a position the terms of K, then those of kdot: `lanes` of each, or one.
template <class T>
struct SeriesRow {
    DualRow<T> dual;
    const T *a_x, *a_y;
    Int terms;
    T scale, mix;  // as in Bend
};

template <class T>
struct Rows {
    Int lanes;
    void (*input)(Int w, Int c, const T *x, const T *y, T *k);       // x (w, c), y (w, c, lanes): sums over c
    void (*input_each)(Int w, Int c, const T *x, const T *y, T *k);  // x (w, c, lanes)
    Bend<T> (*bend)(double slope, double bend, double scale, double mix);
    void (*relu)(const DualRow<T> &row, const Bend<T> &bend, bool mask);  // mask: kdot by the slopes at variance 0
    void (*relu_each)(const DualRow<T> &row, const Bend<T> &bend, bool mask);
    void (*relu_same)(const DualRow<T> &row, const Bend<T> &bend);  // x = y and k = q: exactly
    void (*both)(const Both<T> &plane, const Bend<T> &bend, bool mask);
    void (*both_each)(const Both<T> &plane, const Bend<T> &bend, bool mask);
    void (*erf)(const DualRow<T> &row, const Bend<T> &bend);  // of `bend`, scale and mix
    void (*erf_each)(const DualRow<T> &row, const Bend<T> &bend);
    void (*series)(const SeriesRow<T> &row);
    void (*series_each)(const SeriesRow<T> &row);
    void (*box)(const BoxRow<T> &row);
    void (*add)(Int w, T a, const T *x, T *out);                           // out += a x
    void (*sum)(Int w, T a, const T *x, T b, const T *y, T c, T *out);     // out = a x + b y + c; x, y may be null
    void (*total)(Int w, const T *x, double *out);                         // out[lane] += sum over positions
    // out[to - to0] += a weight in[from - from0] over all taps
    void (*gather)(const Tap *taps, Int count, Int to0, Int from0, T a, const T *in, T *out);
};

}  // namespace gramian
