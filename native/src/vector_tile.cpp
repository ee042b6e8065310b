// All layers of a network on vectors, applied to a tile of cosines while it is in the cache. Compiled once for each
// instruction set (isa.h). The loops over LANES entries are what the compiler turns into vector instructions.
#include "vector_series.h"
#include "vector_values.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

template <typename T, bool NTK>
void run_affine(const Op &op, Registers<T> &r) {
    const T gain = T(op.p0);
    const T *in_u = r.u[op.a], *in_t = r.t[op.a];
    T *u = r.u[op.dst], *t = r.t[op.dst];
    if (NTK) {
        GRAMIAN_LANES
        for (int i = 0; i < LANES; i++) t[i] = in_t[i] + gain * cosine_of(in_u[i]);
    }
    if (op.dst == op.a) return;
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) u[i] = in_u[i];
}

template <typename T, bool NTK>
void run_biased(const Op &op, Registers<T> &r, const Tile<T> &a, long row, long col) {
    const T *f = a.row_factors + op.factor * a.row_stride + row, *c = a.col_factors + op.factor * a.col_stride + col;
    const long n = a.row_stride, m = a.col_stride;
    const T gain = T(op.p0), rho1 = f[0], g1 = f[n], sin1 = f[2 * n], cos1 = f[3 * n];
    const T *in_u = r.u[op.a], *in_t = r.t[op.a];
    T *u = r.u[op.dst], *t = r.t[op.dst];
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        const T rho = rho1 * c[i], y = sin1 * c[3 * m + i] - cos1 * c[2 * m + i], below = in_u[i];
        if (NTK) t[i] = rho * (in_t[i] + gain * cosine_of(below)) + g1 * c[m + i];
        u[i] = folded(rho * unfolded(below) + 2 * y * y);
    }
}

// Cho and Saul's arc-cosine kernels: 1 - K'/s' = u + p0 (h - u) with h = u - (sin t - t cos t) / pi. `whole`: p0 is 1, as
// of ReLU itself, whose values are at most at a right angle.
template <typename T, bool NTK, bool whole>
void run_slopes_of(const Op &op, Registers<T> &r) {
    const T bend = T(op.p0);
    const T *in_u = r.u[op.a], *in_t = r.t[op.a];
    T *u = r.u[op.dst], *t = r.t[op.dst];
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        const T x = in_u[i], w = size_of(x), base = x < 0 ? T(1) : w;
        const T side = root(w), p = side * angle(w), less = side * w * area(w);
        if (NTK) t[i] = in_t[i] * (whole ? (x < 0 ? p : 1 - p) : 1 - bend * (x < 0 ? 1 - p : p));
        if (whole) {
            const T made = base - less;
            u[i] = made < 0 ? T(0) : made;
        } else {
            const T below = unfolded(x);
            u[i] = folded(below + bend * (base - below - less));
        }
    }
}

template <typename T, bool NTK>
void run_slopes(const Op &op, Registers<T> &r) {
    op.p0 == 1 ? run_slopes_of<T, NTK, true>(op, r) : run_slopes_of<T, NTK, false>(op, r);
}

// Values with means: 1 - K/s is that of both parts, and what the parts' sizes and means, all over sqrt(q), differ by.
template <typename T, bool NTK>
void run_sum(const Op &op, Registers<T> &r, const Tile<T> &a, long row, long col) {
    const T *f = a.row_factors + op.factor * a.row_stride + row, *c = a.col_factors + op.factor * a.col_stride + col;
    const long n = a.row_stride, m = a.col_stride;
    const T wa1 = f[0], wb1 = f[n], ma1 = f[2 * n], mb1 = f[3 * n];
    const T *ua = r.u[op.a], *ta = r.t[op.a], *ub = r.u[op.b], *tb = r.t[op.b];
    T *u = r.u[op.dst], *t = r.t[op.dst];
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        const T wa2 = c[i], wb2 = c[m + i], wa = wa1 * wa2, wb = wb1 * wb2, off_a = wa1 - wa2, off_b = wb1 - wb2;
        const T apart = T(0.5) * (off_a * off_a + off_b * off_b), ma2 = c[2 * m + i], mb2 = c[3 * m + i];
        const T less = (ma1 - ma2) * (mb1 - mb2), more = (ma1 + ma2) * (mb1 + mb2);
        const T xa = ua[i], xb = ub[i], near = unfolded(xa), near_b = unfolded(xb);
        const T far = xa < 0 ? -xa : 2 - xa, far_b = xb < 0 ? -xb : 2 - xb;  // 1 + c
        if (NTK) t[i] = wa * ta[i] + wb * tb[i];
        u[i] = folded(wa * near + wb * near_b + apart + less, wa * far + wb * far_b + apart + more);
    }
}

template <typename T, bool NTK>
void run_jump(const Op &op, Registers<T> &r) {
    const T scale = T(op.p0);
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        const T x = r.u[op.a][i], size = size_of(x), w = size < nothing(size) ? T(0) : size, p = root(w) * angle(w);
        r.u[op.dst][i] = x < 0 ? folded(scale * (1 - p), 2 - scale + scale * p) : scale * p;
        if (NTK) r.t[op.dst][i] = 0;
    }
}

// 2 / pi arcsin(x) with 1 - x = v = sin sin + cos cos w + 2 y^2, a sum of positive terms; odd: w is 1 - |c|
template <typename T, bool NTK>
void run_erf(const Op &op, Registers<T> &r, const Tile<T> &a, long row, long col) {
    const T *f = a.row_factors + op.factor * a.row_stride + row, *c = a.col_factors + op.factor * a.col_stride + col;
    const long n = a.row_stride, m = a.col_stride;
    const T cos1 = f[0], sin1 = f[n], half_sin = f[2 * n], half_cos = f[3 * n], scale = f[4 * n], slope = f[5 * n];
    const T *in_u = r.u[op.a], *in_t = r.t[op.a];
    T *u = r.u[op.dst], *t = r.t[op.dst];
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) {
        const T x = in_u[i], y = half_sin * c[3 * m + i] - half_cos * c[2 * m + i];
        const T v = clipped(2 * y * y + sin1 * c[m + i] + cos1 * c[i] * size_of(x));
        if (NTK) t[i] = in_t[i] * slope * c[5 * m + i] / root(v * (2 - v));
        const T made = folded(1 - (1 - 2 * over_pi(v)) * scale * c[4 * m + i]);
        u[i] = x < 0 ? turned(made) : made;
    }
}

template <typename T, bool NTK>
void run(const Tile<T> &a, Registers<T> &r, long row, long col) {
    for (int k = 0; k < a.n_ops; k++) {
        const Op &op = a.ops[k];
        switch (op.kind) {
            case affine: run_affine<T, NTK>(op, r); break;
            case biased: run_biased<T, NTK>(op, r, a, row, col); break;
            case slopes: run_slopes<T, NTK>(op, r); break;
            case sum: run_sum<T, NTK>(op, r, a, row, col); break;
            case jump: run_jump<T, NTK>(op, r); break;
            case erf: run_erf<T, NTK>(op, r, a, row, col); break;
            case series: run_series<T, NTK>(op, r, a, row, col); break;
            case table: run_table<T, NTK>(op, r, a, row, col); break;
            default: break;
        }
    }
}

// 1 - |cosine| of a pair from the distance of the normalized inputs, or of one and minus the other, in double
template <typename T>
double by_distance(const Tile<T> &a, long row, long col, double sign) {
    const T *x = a.x + row * a.features, *y = a.y + col * a.features;
    const double rx = a.x_inverse[row], ry = sign * a.y_inverse[col];
    if (rx == 0 || ry == 0) return 1;
    double part[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    long k = 0;
    for (; k + 8 <= a.features; k += 8)
        for (int i = 0; i < 8; i++) {
            const double d = double(x[k + i]) * rx - double(y[k + i]) * ry;
            part[i] += d * d;
        }
    for (; k < a.features; k++) {
        const double d = double(x[k]) * rx - double(y[k]) * ry;
        part[0] += d * d;
    }
    return 0.5 * (((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7])));
}

template <typename T>
void load(const Tile<T> &a, Registers<T> &r, long row, long col, int count) {
    const T *cosine = a.cosine + row * a.cosine_stride + col;
    T *u = r.u[0], *t = r.t[0];
    const T near = T(a.near);
    if (a.gaps)
        for (int i = 0; i < count; i++) u[i] = cosine[i];
    else
        for (int i = 0; i < count; i++) {
            const T c = cosine[i], left = 1 - size_of(c);
            u[i] = c < 0 ? below_zero(left) : left < 0 ? T(0) : left;
        }
    for (int i = count; i < LANES; i++) u[i] = 1;
    int close = 0;
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) close += size_of(u[i]) < near;
    GRAMIAN_LANES
    for (int i = 0; i < LANES; i++) t[i] = 0;
    if (close == 0) return;
    for (int i = 0; i < count; i++)
        if (size_of(u[i]) < near) {
            const bool back = u[i] < 0;
            const T left = T(by_distance(a, row, col + i, back ? -1 : 1));
            u[i] = back ? below_zero(left) : left;
        }
}

// Returns how many results are not finite.
template <typename T, bool NTK>
int store(const Tile<T> &a, const Registers<T> &r, long row, long col, int count) {
    const T *u = r.u[a.out], *t = r.t[a.out], *c = a.col_factors + a.scale * a.col_stride + col;
    const T side = a.row_factors[a.scale * a.row_stride + row];
    T *nngp = a.nngp + row * a.out_stride + col, *ntk = NTK ? a.ntk + row * a.out_stride + col : nullptr;
    int bad = 0;
    for (int i = 0; i < count; i++) {
        const T k = side * c[i] * cosine_of(u[i]);
        nngp[i] = k;
        bad += !(k - k == 0);
    }
    if (NTK)
        for (int i = 0; i < count; i++) {
            const T k = side * c[i] * t[i];
            ntk[i] = k;
            bad += !(k - k == 0);
        }
    return bad;
}

template <typename T, bool NTK>
long all(const Tile<T> &a) {
    Registers<T> r;
    long bad = 0;
    for (long row = 0; row < a.rows; row++)
        for (long col = a.diagonal ? row / LANES * LANES : 0; col < a.cols; col += LANES) {
            const int count = int(a.cols - col < LANES ? a.cols - col : LANES);
            load(a, r, row, col, count);
            run<T, NTK>(a, r, row, col);
            if (count == LANES)
                bad += store<T, NTK>(a, r, row, col, LANES);
            else
                bad += store<T, NTK>(a, r, row, col, count);
        }
    return bad;
}

}  // namespace

template <typename T>
static long near_pairs(const T *cosine, long stride, long rows, long cols, T above) {
    long total = 0;
    for (long i = 0; i < rows; i++) {
        int count = 0;
        for (long j = 0; j < cols; j++) count += size_of(cosine[i * stride + j]) > above;
        total += count;
    }
    return total;
}

long near_count(const Tile<float> &a) {
    return near_pairs(a.cosine, a.cosine_stride, a.rows, a.cols, float(1 - a.near));
}
long near_count(const Tile<double> &a) {
    return near_pairs(a.cosine, a.cosine_stride, a.rows, a.cols, 1 - a.near);
}

long tile(const Tile<float> &a) { return a.ntk ? all<float, true>(a) : all<float, false>(a); }
long tile(const Tile<double> &a) { return a.ntk ? all<double, true>(a) : all<double, false>(a); }

// to[j][i] = from[i][j], in blocks that stay in the first cache
template <typename T>
static void turn(const T *from, long from_stride, T *to, long to_stride, long rows, long cols, bool upper) {
    constexpr long B = 16;
    for (long i0 = 0; i0 < rows; i0 += B)
        for (long j0 = upper ? i0 : 0; j0 < cols; j0 += B) {
            const long i1 = i0 + B < rows ? i0 + B : rows, j1 = j0 + B < cols ? j0 + B : cols;
            if (i1 - i0 == B && j1 - j0 == B && !(upper && j0 == i0)) {
                T block[B][B];
                for (long i = 0; i < B; i++)
                    for (long j = 0; j < B; j++) block[j][i] = from[(i0 + i) * from_stride + j0 + j];
                for (long j = 0; j < B; j++)
                    for (long i = 0; i < B; i++) to[(j0 + j) * to_stride + i0 + i] = block[j][i];
                continue;
            }
            for (long j = j0; j < j1; j++)
                for (long i = i0; i < i1; i++)
                    if (!upper || j > i) to[j * to_stride + i] = from[i * from_stride + j];
        }
}

void mirror(const float *from, long a, float *to, long b, long rows, long cols, bool upper) {
    turn(from, a, to, b, rows, cols, upper);
}
void mirror(const double *from, long a, double *to, long b, long rows, long cols, bool upper) {
    turn(from, a, to, b, rows, cols, upper);
}

}  // namespace GRAMIAN_ISA
}  // namespace gramian
