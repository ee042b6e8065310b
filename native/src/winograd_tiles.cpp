// Winograd's convolutions, a block of tiles at a time while it is in the cache. Compiled once for each instruction set
// (isa.h); lanes are channels. Arrays in the domain are (36, rows, channels).
#include "lanes.h"
#include "planes_lanes.h"
#include "winograd.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

using V = Lanes<float>;
constexpr Int L = V::count;
constexpr float P = 0.625f, Q = 1.5f, P2 = P * P, Q2 = Q * Q;
constexpr float F0 = P2 * Q2, FP = 2 * P2 * (P2 - Q2), FQ = 2 * Q2 * (Q2 - P2);  // each point's product of differences

INLINE V times(float a, V b) { return all(a) * b; }
INLINE V plus(V c, float a, V b) { return fma(all(a), b, c); }

// B' d
INLINE void of_inputs(const V *d, Int step, V *v, Int to) {
    const V ep = plus(d[4 * step], -Q2, d[2 * step]), op = times(P, plus(d[3 * step], -Q2, d[step]));
    const V eq = plus(d[4 * step], -P2, d[2 * step]), oq = times(Q, plus(d[3 * step], -P2, d[step]));
    v[0] = plus(plus(d[4 * step], -(P2 + Q2), d[2 * step]), F0, d[0]);
    v[to] = ep + op;
    v[2 * to] = ep - op;
    v[3 * to] = eq + oq;
    v[4 * to] = eq - oq;
    v[5 * to] = plus(plus(d[5 * step], -(P2 + Q2), d[3 * step]), F0, d[step]);
}

// A y, of four results
INLINE void of_results(const V *y, Int step, V *v, Int to) {
    const V ep = plus(y[0], P2, y[2 * step]), op = times(P, plus(y[step], P2, y[3 * step]));
    const V eq = plus(y[0], Q2, y[2 * step]), oq = times(Q, plus(y[step], Q2, y[3 * step]));
    v[0] = y[0];
    v[to] = ep + op;
    v[2 * to] = ep - op;
    v[3 * to] = eq + oq;
    v[4 * to] = eq - oq;
    v[5 * to] = y[3 * step];
}

// A' m
INLINE void to_results(const V *m, Int step, V *y, Int to) {
    const V sp = m[step] + m[2 * step], dp = m[step] - m[2 * step];
    const V sq = m[3 * step] + m[4 * step], dq = m[3 * step] - m[4 * step];
    y[0] = m[0] + sp + sq;
    y[to] = plus(times(P, dp), Q, dq);
    y[2 * to] = plus(times(P2, sp), Q2, sq);
    y[3 * to] = plus(plus(m[5 * step], P * P2, dp), Q * Q2, dq);
}

// G' m
INLINE void to_weights(const V *m, Int step, V *g, Int to) {
    const V sp = times(1 / FP, m[step] + m[2 * step]), dp = times(1 / FP, m[step] - m[2 * step]);
    const V sq = times(1 / FQ, m[3 * step] + m[4 * step]), dq = times(1 / FQ, m[3 * step] - m[4 * step]);
    g[0] = plus(sp + sq, 1 / F0, m[0]);
    g[to] = plus(times(P, dp), Q, dq);
    g[2 * to] = plus(plus(m[5 * step], P2, sp), Q2, sq);
}

// Tiles [first, first + count) of the windows, counted through all images, into v (36, count, c).
void windows(const Windows &a, Int first, Int count, float *v) {
    const Int tiles = a.rows * a.columns;
    for (Int t = 0; t < count; ++t) {
        const Int image = (first + t) / tiles, tile = (first + t) % tiles;
        const Int top = 4 * (tile / a.columns) - a.pad, left = 4 * (tile % a.columns) - a.pad;
        const bool inside = top >= 0 && left >= 0 && top + 6 <= a.h && left + 6 <= a.w;
        const float *x = a.x + image * a.step + (top * a.w + left) * a.c;
        for (Int c = 0; c < a.c; c += L) {
            V half[36], column[6];
            for (Int j = 0; j < 6; ++j) {
                for (Int i = 0; i < 6; ++i) {
                    const Int row = top + i, place = left + j;
                    const bool has = inside || (row >= 0 && row < a.h && place >= 0 && place < a.w);
                    column[i] = has ? load(x + (i * a.w + j) * a.c + c) : all(0.0f);
                }
                of_inputs(column, 1, half + j, 6);
            }
            for (Int i = 0; i < 6; ++i) {
                V out[6];
                of_inputs(half + 6 * i, 1, out, 1);
                for (Int j = 0; j < 6; ++j) store(v + ((6 * i + j) * count + t) * a.c + c, out[j]);
            }
        }
    }
}

// All tiles of one image's cotangents b (high, wide, d) into y (36, tiles, d).
void cotangents(const Windows &a, const float *b, Int d, float *y) {
    const Int tiles = a.rows * a.columns;
    for (Int t = 0; t < tiles; ++t) {
        const Int top = 4 * (t / a.columns), left = 4 * (t % a.columns);
        const bool inside = top + 4 <= a.high && left + 4 <= a.wide;
        for (Int c = 0; c < d; c += L) {
            V half[24], column[4];
            for (Int j = 0; j < 4; ++j) {
                for (Int i = 0; i < 4; ++i) {
                    const bool has = inside || (top + i < a.high && left + j < a.wide);
                    column[i] = has ? load(b + ((top + i) * a.wide + left + j) * d + c) : all(0.0f);
                }
                of_results(column, 1, half + j, 4);
            }
            for (Int i = 0; i < 6; ++i) {
                V out[6];
                of_results(half + 4 * i, 1, out, 1);
                for (Int j = 0; j < 6; ++j) store(y + ((6 * i + j) * tiles + t) * d + c, out[j]);
            }
        }
    }
}

// Sums m (36, count, d) of tiles [first, first + count) to the places of the result.
void results(const Filtering &a, Int first, Int count, const float *m) {
    const Windows &in = a.in;
    const Int tiles = in.rows * in.columns;
    for (Int t = 0; t < count; ++t) {
        const Int image = (first + t) / tiles, tile = (first + t) % tiles;
        const Int top = 4 * (tile / in.columns), left = 4 * (tile % in.columns);
        const Int high = in.high - top < 4 ? in.high - top : 4, wide = in.wide - left < 4 ? in.wide - left : 4;
        float *to = a.out + ((image * in.high + top) * in.wide + left) * a.d;
        for (Int c = 0; c < a.d; c += L) {
            V half[24], column[6];
            for (Int j = 0; j < 6; ++j) {
                for (Int i = 0; i < 6; ++i) column[i] = load(m + ((6 * i + j) * count + t) * a.d + c);
                to_results(column, 1, half + j, 6);
            }
            for (Int i = 0; i < high; ++i) {
                V out[4];
                to_results(half + 6 * i, 1, out, 1);
                for (Int j = 0; j < wide; ++j) store(to + (i * in.wide + j) * a.d + c, out[j]);
            }
        }
    }
}

// Sums m (36, d, c) to a gradient (d, 9, c).
void gradients(const float *m, Int d, Int c, float *out) {
    for (Int o = 0; o < d; ++o) {
        for (Int at = 0; at < c; at += L) {
            V half[18], column[6];
            for (Int j = 0; j < 6; ++j) {
                for (Int i = 0; i < 6; ++i) column[i] = load(m + ((6 * i + j) * d + o) * c + at);
                to_weights(column, 1, half + j, 6);
            }
            for (Int i = 0; i < 3; ++i) {
                V row[3];
                to_weights(half + 6 * i, 1, row, 1);
                for (Int j = 0; j < 3; ++j) store(out + (9 * o + 3 * i + j) * c + at, row[j]);
            }
        }
    }
}

// ROWS x WIDE registers of m[r, c] = sum_k a[r, k] b[k, c]; the places of a are r `row` + k `next`.
template <int ROWS, int WIDE>
INLINE void block(Int depth, const float *a, Int row, Int next, const float *b, Int step_b, float *m, Int step_m) {
    V sums[ROWS][WIDE];
    GRAMIAN_UNROLL
    for (int r = 0; r < ROWS; ++r) {
        GRAMIAN_UNROLL
        for (int i = 0; i < WIDE; ++i) sums[r][i] = all(0.0f);
    }
    for (Int k = 0; k < depth; ++k, a += next, b += step_b) {
        V right[WIDE];
        GRAMIAN_UNROLL
        for (int i = 0; i < WIDE; ++i) right[i] = load(b + i * L);
        GRAMIAN_UNROLL
        for (int r = 0; r < ROWS; ++r) {
            const V left = all(a[r * row]);
            GRAMIAN_UNROLL
            for (int i = 0; i < WIDE; ++i) sums[r][i] = fma(left, right[i], sums[r][i]);
        }
    }
    GRAMIAN_UNROLL
    for (int r = 0; r < ROWS; ++r) {
        GRAMIAN_UNROLL
        for (int i = 0; i < WIDE; ++i) store(m + r * step_m + i * L, sums[r][i]);
    }
}

#if defined(__AVX512F__)
constexpr int MOST_ROWS = 6, MOST_WIDE = 4;
#else
constexpr int MOST_ROWS = 4, MOST_WIDE = 2;
#endif

template <int WIDE>
void panel(Int rows, Int depth, const float *a, Int row, Int next, const float *b, Int step_b, float *m, Int step_m) {
    Int r = 0;
    for (; r + MOST_ROWS <= rows; r += MOST_ROWS)
        block<MOST_ROWS, WIDE>(depth, a + r * row, row, next, b, step_b, m + r * step_m, step_m);
    for (; r + 2 <= rows; r += 2) block<2, WIDE>(depth, a + r * row, row, next, b, step_b, m + r * step_m, step_m);
    for (; r < rows; ++r) block<1, WIDE>(depth, a + r * row, row, next, b, step_b, m + r * step_m, step_m);
}

// m (rows, cols) = a b, with b (depth, cols), for a number of columns that the lanes divide.
void product(Int rows, Int cols, Int depth, const float *a, Int row, Int next, const float *b, float *m) {
    Int c = 0;
    for (; c + MOST_WIDE * L <= cols; c += MOST_WIDE * L)
        panel<MOST_WIDE>(rows, depth, a, row, next, b + c, cols, m + c, cols);
    for (; c + 2 * L <= cols; c += 2 * L) panel<2>(rows, depth, a, row, next, b + c, cols, m + c, cols);
    for (; c < cols; c += L) panel<1>(rows, depth, a, row, next, b + c, cols, m + c, cols);
}

}  // namespace

// Tiles [first, first + count), through scratch of 36 count (c + d) numbers.
void filter_tiles(const Filtering &a, Int first, Int count, float *scratch) {
    const Int c = a.in.c, d = a.d;
    float *v = scratch, *m = scratch + 36 * count * c;
    windows(a.in, first, count, v);
    for (Int k = 0; k < 36; ++k) product(count, d, c, v + k * count * c, c, 1, a.u + k * c * d, m + k * count * d);
    results(a, first, count, m);
}

// All gradients of image i, through scratch of 36 (tiles (c + d) + c d) numbers.
void weight_gradients(const Gradient &a, Int i, float *scratch) {
    const Int c = a.in.c, d = a.d, tiles = a.in.rows * a.in.columns;
    float *v = scratch, *y = v + 36 * tiles * c, *m = y + 36 * tiles * d;
    windows(a.in, i * tiles, tiles, v);
    for (Int k = 0; k < a.k; ++k) {
        cotangents(a.in, a.b + i * a.step_n + k * a.step_k, d, y);
        for (Int p = 0; p < 36; ++p)
            product(d, c, tiles, y + p * tiles * d, 1, d, v + p * tiles * c, m + p * c * d);
        gradients(m, d, c, a.out + (i * a.k + k) * d * 9 * c);
    }
}

}  // namespace GRAMIAN_ISA
}  // namespace gramian
