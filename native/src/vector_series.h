// Duals without a closed form, as sums of terms: power series of the correlation, and tables in the angle. Python makes
// the terms and says what they are (gramian/duals/hermite_series.py, gramian/duals/angle_tables.py).
#pragma once

#include "vector_values.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

// Terms too small to count, and the largest |c| below which the first terms are enough and 1 - K'/s' may be subtracted.
inline float negligible(float) { return 1e-10f; }
inline double negligible(double) { return 1e-19; }
constexpr double FAR = 0.75;
constexpr int SHORT = 16;  // terms of a Chebyshev series whose recursion float can be trusted with

template <typename T>
inline T largest_size(const T *c) {
    T most[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, all = 0;
    for (int k = 0; k < LANES; k += 16) {
        GRAMIAN_LANES
        for (int i = 0; i < 16; i++) {
            const T size = c[k + i] < 0 ? -c[k + i] : c[k + i];
            most[i] = size > most[i] ? size : most[i];
        }
    }
    for (int i = 0; i < 16; i++) all = most[i] > all ? most[i] : all;
    return all;
}

// K'/s' = sum_r A_r A_r c^r with coefficients A of each row and column whose squares sum to 1: r = 0, r = 1, and p0 more
// from c^start on, a multiple of 4 of them, each `step` powers above the last. Where c is near 1 its distance to 1,
//
//     sum_r (A_r - A_r')^2 / 2 + A_1 A_1' u + sum_r A_r A_r' (1 - c^r),
//
// is summed without a difference: 1 - z^j = (1 - z)(1 + ... + z^(j - 1)), so that in the end each power of z has the sum
// of all products above it. Elsewhere it is (h + h') + (A_0 - A_0')^2 / 2 less the terms from r = 1, h = (1 - A_0^2) / 2.
template <typename T, bool NTK>
void run_series(const Op &op, Registers<T> &r, const Tile<T> &a, long row, long col) {
    const long n = a.row_stride, m = a.col_stride;
    const int form = int(op.p1), start = form == 3 ? 3 : 2;
    const T step = form ? 2 : 1;
    int terms = int(op.p0);
    const T *f = a.row_factors + op.factor * n + row, *c = a.col_factors + op.factor * m + col;
    alignas(64) T cosine[LANES], z[LANES], sum[LANES], slope[LANES], rest[LANES], tail[LANES], apart[LANES];
    const T *in_u = r.u[op.a], *in_t = r.t[op.a];
    T *u = r.u[op.dst], *t = r.t[op.dst];
    const T h1 = f[0], zero1 = f[n], one1 = f[2 * n];
    const bool odd = form == 3 && zero1 == 0;  // a series of odd powers: at the opposite value minus the result
    const T *h2 = c, *zero2 = c + m, *one2 = c + 2 * m;
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        cosine[i] = odd ? 1 - size_of(in_u[i]) : cosine_of(in_u[i]);
        z[i] = form ? cosine[i] * cosine[i] : cosine[i];
        sum[i] = slope[i] = rest[i] = tail[i] = apart[i] = 0;
    }
    f += 3 * n, c += 3 * m;
    const T size = largest_size(cosine);
    const bool far = size < T(FAR);
    if (far) {
        const T factor = form ? size * size : size;
        T left = form == 3 ? factor * size : size * size;
        int few = 0;
        for (; few < terms && left > negligible(size); few++) left *= factor;
        terms = (few + 3) & ~3;
        for (int s = terms - 4; s >= 0; s -= 4) {
            const T a0 = f[s * n], a1 = f[(s + 1) * n], a2 = f[(s + 2) * n], a3 = f[(s + 3) * n];
            const T *b0 = c + s * m, *b1 = b0 + m, *b2 = b1 + m, *b3 = b2 + m;
            GRAMIAN_LANES
            for (int i = 0; i < LANES; i++) {
                const T x = z[i];
                T k = sum[i], d = slope[i];
                if (NTK) d = d * x + k;
                k = k * x + a3 * b3[i];
                if (NTK) d = d * x + k;
                k = k * x + a2 * b2[i];
                if (NTK) d = d * x + k;
                k = k * x + a1 * b1[i];
                if (NTK) d = d * x + k;
                k = k * x + a0 * b0[i];
                sum[i] = k, slope[i] = d;
            }
        }
    } else {
        for (int s = terms - 1; s >= 0; s--) {
            const T a1 = f[s * n];
            const T *b1 = c + s * m;
            GRAMIAN_LANES
            for (int i = 0; i < LANES; i++) {
                const T b = b1[i], x = z[i], product = a1 * b, off = a1 - b, k = sum[i];
                apart[i] += off * off;
                rest[i] = rest[i] * x + tail[i];
                tail[i] += product;
                if (NTK) slope[i] = slope[i] * x + k;
                if (NTK) sum[i] = k * x + product;
            }
        }
    }
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        const T x = cosine[i], from = in_u[i], below = odd ? size_of(from) : unfolded(from), one = one1 * one2[i], off0 = zero1 - zero2[i], off1 = one1 - one2[i];
        const T before = form == 3 ? z[i] : x;  // c^(start - 1)
        if (NTK) t[i] = in_t[i] * (one + before * (start * sum[i] + step * z[i] * slope[i]));
        T made;
        if (far) {
            made = h1 + h2[i] + T(0.5) * off0 * off0 - (x * one + before * x * sum[i]);
        } else {
            const T powers = 1 + x + (form == 3 ? z[i] : T(0));  // (1 - c^start) / u
            const T each = form ? 1 + x : T(1);                  // (1 - z) / u
            made = T(0.5) * (off0 * off0 + off1 * off1 + apart[i]) +
                   below * (one + tail[i] * powers + before * x * each * rest[i]);
        }
        made = folded(made);
        u[i] = odd && from < 0 ? turned(made) : made;
    }
}

template <typename T, int P>
inline T product_of(const T *row, long n, const T *col, long m, int i) {
    if (P == 1) return row[0];  // T_0 = 1
    T total = 0;
    GRAMIAN_UNROLL
    for (int b = 0; b < P; b++) total += row[b * n] * col[b * m + i];
    return total;
}

// Two Chebyshev series by Clenshaw's recursion in numbers A, p0 terms of P factors each: first[] and second[] at x.
template <typename A, typename T, bool NTK, int P>
void run_chebyshev(const T *row, long n, const T *col, long m, int terms, const T *x, T *first, T *second) {
    alignas(64) A one[LANES], two[LANES], one_d[LANES], two_d[LANES];
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) one[i] = two[i] = one_d[i] = two_d[i] = 0;
    for (int r = terms - 1; r >= 1; r -= 2) {
        const T *g1 = row + r * P * n, *g0 = g1 - P * n, *d1 = g1 + terms * P * n, *d0 = d1 - P * n;
        const A half = r == 1 ? A(0.5) : A(1);  // the last step of the recursion takes x for 2 x
        GRAMIAN_LANES
        for (int i = 0; i < LANES; i++) {
            const A y = 2 * A(x[i]), y0 = half * y;
            const A now = y * one[i] - two[i] + product_of<T, P>(g1, n, col, m, i);
            two[i] = now, one[i] = y0 * now - one[i] + product_of<T, P>(g0, n, col, m, i);
            if (NTK) {
                const A now_d = y * one_d[i] - two_d[i] + product_of<T, P>(d1, n, col, m, i);
                two_d[i] = now_d, one_d[i] = y0 * now_d - one_d[i] + product_of<T, P>(d0, n, col, m, i);
            }
        }
    }
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        first[i] = T(one[i]);
        if (NTK) second[i] = T(one_d[i]);
    }
}

// u = (s - s')^2 sum_b h_b T_b' + e' w G and T *= e' D: a Chebyshev series G in x, and with NTK D, p0 terms of P factors.
// With p1 = 3 P + form: form 0: x = 1 - u, w = u; else p = angle / pi, x = 2 p - 1, and w = p^2 (form 1) or p (form 2).
// 64 more of an odd function, which is computed at the acute angle.
template <typename T, bool NTK, int P>
void run_table(const Op &op, Registers<T> &r, const Tile<T> &a, long row, long col) {
    const long n = a.row_stride, m = a.col_stride;
    const bool odd = op.p1 >= 64;
    const int form = int(op.p1) % 64 % 3, terms = int(op.p0);
    const T *f = a.row_factors + op.factor * n + row, *c = a.col_factors + op.factor * m + col;
    const T *in_t = r.t[op.a], *e2 = c + m, *basis = c + 2 * m, *series = f + (2 + 2 * P) * n;
    alignas(64) T x[LANES], lead[LANES], first[LANES], second[LANES], from[LANES];
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) from[i] = r.u[op.a][i];
    if (form == 0) {
        GRAMIAN_LANES
        for (int i = 0; i < LANES; i++) lead[i] = odd ? size_of(from[i]) : unfolded(from[i]), x[i] = 1 - lead[i];
    } else {
        GRAMIAN_LANES
        for (int i = 0; i < LANES; i++) {
            const T size = size_of(from[i]), w = form == 2 && size < nothing(size) ? T(0) : size;
            const T acute = root(w) * angle(w), p = !odd && from[i] < 0 ? 1 - acute : acute;
            lead[i] = form == 1 ? p * p : p;
            x[i] = 2 * p - 1;
        }
    }
    if (terms > SHORT)
        run_chebyshev<double, T, NTK, P>(series, n, basis, m, terms, x, first, second);
    else
        run_chebyshev<T, T, NTK, P>(series, n, basis, m, terms, x, first, second);
    T *u = r.u[op.dst], *t = r.t[op.dst];
    const T s1 = f[0];
    const T *h = f + (2 + P) * n;
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        const T off = s1 - c[i];
        const T apart = P == 1 ? T(0) : off * off * product_of<T, P>(h, n, basis, m, i);
        const T made = folded(apart + e2[i] * lead[i] * first[i]);
        u[i] = odd && from[i] < 0 ? turned(made) : made;
        if (NTK) t[i] = in_t[i] * (e2[i] * second[i]);
    }
}

template <typename T, bool NTK>
void run_table(const Op &op, Registers<T> &r, const Tile<T> &a, long row, long col) {
    switch (int(op.p1) % 64 / 3) {
        case 1: return run_table<T, NTK, 1>(op, r, a, row, col);
        case 2: return run_table<T, NTK, 2>(op, r, a, row, col);
        case 3: return run_table<T, NTK, 3>(op, r, a, row, col);
        case 4: return run_table<T, NTK, 4>(op, r, a, row, col);
        case 6: return run_table<T, NTK, 6>(op, r, a, row, col);
        case 8: return run_table<T, NTK, 8>(op, r, a, row, col);
        case 12: return run_table<T, NTK, 12>(op, r, a, row, col);
        default: return run_table<T, NTK, 16>(op, r, a, row, col);
    }
}

}  // namespace
}  // namespace GRAMIAN_ISA
}  // namespace gramian
