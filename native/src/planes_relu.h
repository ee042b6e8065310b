// The dual of the ReLU family over rows: the arithmetic that most of a convolutional network's time goes to.
#pragma once

#include "arccos.h"
#include "planes_lanes.h"
#include "planes_rows.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

// Coefficients of P and Q of arccos.h.
template <class T>
struct Series;
template <>
struct Series<float> {
    static constexpr int degree_p = 6, degree_q = 5;
    static constexpr float p[] = {ARCCOS_FLOAT(AS_IT_IS)}, q[] = {AREA_FLOAT(AS_IT_IS)};
};
template <>
struct Series<double> {
    static constexpr int degree_p = 18, degree_q = 17;
    static constexpr double p[] = {ARCCOS_DOUBLE(AS_IT_IS)}, q[] = {AREA_DOUBLE(AS_IT_IS)};
};
constexpr float Series<float>::p[], Series<float>::q[];
constexpr double Series<double>::p[], Series<double>::q[];

// What rounding alone can make of 1 - |c|: a few units in the last place count as zero, as in the torch engine.
template <class T>
constexpr T few = sizeof(T) == 4 ? T(8 * 1.1920929e-7) : T(8 * 2.220446049250313e-16);

template <int degree, class T>
INLINE Lanes<T> horner(const T *coefficients, Lanes<T> w) {
    Lanes<T> sum = all(coefficients[degree]);
    for (int i = degree - 1; i >= 0; --i) sum = fma(sum, w, all(coefficients[i]));
    return sum;
}

#define EVERY for (int u = 0; u < U; ++u)

template <class T, bool each>
INLINE Lanes<T> of_x(const T *x, Int at) {
    return each ? load(x + at * Lanes<T>::count) : all(x[at]);
}

// What a loop over a row needs of its activation, in registers: copies, which no store can change.
template <class T>
struct Ramp {
    Lanes<T> h, lin, slope2, cross, mix, far, close;
    T p[Series<T>::degree_p + 1], q[Series<T>::degree_q + 1];
};

// `U` positions of a row from place i on. They go through each step together, so that one need not wait for itself.
//
// With s = sqrt(q q') and c = k / s: K' = h max(k, 0) + s A(|c|) + lin k, A = w^(3/2) Q(w) b^2 / 2 pi at w = 1 - |c|, and
// kdot = h - a where c > 0, else a, with a = acos(|c|) b^2 / 2 pi. The sign of c chooses because A(-c) = A(c) + pi c.
// `sums`: mix is 1.
template <int U, class T, bool each, bool theta, bool leaky, bool mask, bool sums, bool count>
INLINE void relu_block(const DualRow<T> &r, Ramp<T> &ramp, Int i) {
    constexpr Int V = Lanes<T>::count;
    using S = Series<T>;
    const Lanes<T> one = all(T(1)), zero = all(T(0)), tiny = all(few<T>), least = all(sizeof(T) == 4 ? T(1e-36) : T(1e-300));
    Lanes<T> k[U], s[U], w[U], root[U], out[U];
    Mask<T> apart[U], up[U];
    EVERY k[u] = load(r.k + (i + u) * V);
    EVERY s[u] = of_x<T, each>(r.x, i + u) * load(r.y + (i + u) * V);
    EVERY w[u] = keep_quotient(s[u] > least, k[u], s[u]);
    EVERY w[u] = one - abs(w[u]);
    EVERY apart[u] = w[u] > tiny;
    EVERY root[u] = keep_root(apart[u], w[u]);
    EVERY up[u] = k[u] > zero;
    if (sizeof(T) == 4) EVERY ramp.far = select(apart[u], ramp.far + one, ramp.far);
    if (count) EVERY ramp.close = ramp.close + select(w[u] > all(T(1e-3)), zero, one);
    EVERY out[u] = all(ramp.q[S::degree_q]);
    for (int n = S::degree_q - 1; n >= 0; --n) EVERY out[u] = fma(out[u], w[u], all(ramp.q[n]));
    EVERY out[u] = out[u] * (w[u] * root[u]) * s[u];
    EVERY out[u] = select(up[u], fma(ramp.h, k[u], out[u]), out[u]);
    if (leaky) EVERY out[u] = fma(ramp.lin, k[u], out[u]);
    EVERY store(r.ko + (i + u) * V, out[u]);
    if (!theta) return;
    Lanes<T> kdot[U];
    EVERY kdot[u] = all(ramp.p[S::degree_p]);
    for (int n = S::degree_p - 1; n >= 0; --n) EVERY kdot[u] = fma(kdot[u], w[u], all(ramp.p[n]));
    EVERY kdot[u] = root[u] * kdot[u];
    EVERY kdot[u] = select(up[u], ramp.h - kdot[u], kdot[u]);
    if (mask) {  // a position of variance 0 has slope relu'(0) = 0
        EVERY {
            const Lanes<T> on_x = keep(of_x<T, each>(r.x, i + u) > zero, one), on_y = keep(load(r.y + (i + u) * V) > zero, one);
            kdot[u] = fma(ramp.cross, on_x + on_y, kdot[u] * (on_x * on_y)) + ramp.slope2;
        }
    } else if (leaky) {
        EVERY kdot[u] = kdot[u] + ramp.lin;
    }
    if (!sums) EVERY out[u] = ramp.mix * out[u];
    EVERY store(r.to + (i + u) * V, fma(load(r.t + (i + u) * V), kdot[u], out[u]));
}

template <class T, bool each, bool theta, bool leaky, bool mask, bool sums, bool count>
INLINE void relu_row(const DualRow<T> &r, Ramp<T> &ramp) {
    Int i = 0;
    for (; i + 4 <= r.w; i += 4) relu_block<4, T, each, theta, leaky, mask, sums, count>(r, ramp, i);
    for (; i < r.w; ++i) relu_block<1, T, each, theta, leaky, mask, sums, count>(r, ramp, i);
}

template <class T>
INLINE Ramp<T> ramp_of(const Bend<T> &bend) {
    Ramp<T> made{all(bend.h), all(bend.lin), all(bend.slope2), all(bend.cross), all(bend.mix), all(T(0)), all(T(0)), {}, {}};
    for (int i = 0; i <= Series<T>::degree_p; ++i) made.p[i] = bend.p[i];
    for (int i = 0; i <= Series<T>::degree_q; ++i) made.q[i] = bend.q[i];
    return made;
}

template <class T, bool count>
inline void told(const DualRow<T> &r, const Ramp<T> &ramp, Int places) {
    if (sizeof(T) == 4) store(r.near, load(r.near) + (all(T(places)) - ramp.far));
    if (count) store(r.close, load(r.close) + ramp.close);
}

template <class T, bool each>
inline void next_row(DualRow<T> &r) {
    r.x += r.step_x, r.y += r.step_y;
}

template <class T, bool each, bool theta, bool leaky, bool mask, bool sums, bool count>
struct ReluRows {
    static void run(const DualRow<T> &row, const Bend<T> &bend) {
        Ramp<T> ramp = ramp_of(bend);
        DualRow<T> r = row;
        const Int step = r.w * Lanes<T>::count;
        for (Int y = 0; y < row.rows; ++y) {
            relu_row<T, each, theta, leaky, mask, sums, count>(r, ramp);
            next_row<T, each>(r), r.k += step, r.ko += step;
            if (theta) r.t += step, r.to += step;
        }
        told<T, count>(r, ramp, r.w * row.rows);
    }
};

// Calls `Loop` of the settings of this activation; `loop` has a row, or the row that a plane starts with.
template <template <class, bool, bool, bool, bool, bool, bool> class Loop, class T, bool each, bool count, class Work>
void relu_counted(const Work &work, bool theta, const Bend<T> &bend, bool mask) {
    const bool leaky = bend.lin != 0 || bend.slope2 != 0, sums = bend.mix == 1;
    if (!theta)
        leaky ? Loop<T, each, false, true, false, false, count>::run(work, bend)
              : Loop<T, each, false, false, false, false, count>::run(work, bend);
    else if (mask)
        Loop<T, each, true, true, true, false, count>::run(work, bend);
    else if (leaky)
        Loop<T, each, true, true, false, false, count>::run(work, bend);
    else
        sums ? Loop<T, each, true, false, false, true, count>::run(work, bend)
             : Loop<T, each, true, false, false, false, count>::run(work, bend);
}

template <class T, bool each>
void relu(const DualRow<T> &row, const Bend<T> &bend, bool mask) {
    if (sizeof(T) == 4 && row.close != nullptr)
        relu_counted<ReluRows, T, each, sizeof(T) == 4>(row, row.t != nullptr, bend, mask);
    else
        relu_counted<ReluRows, T, each, false>(row, row.t != nullptr, bend, mask);
}

template <class T>
void relu_same(const DualRow<T> &row, const Bend<T> &bend) {
    constexpr Int V = Lanes<T>::count;
    for (Int i = 0; i < row.w * row.rows * V; i += V) {
        const Lanes<T> q = load(row.k + i), on = all(bend.lin + bend.h), off = all(bend.slope2);
        store(row.ko + i, q * on);
        if (row.t == nullptr) continue;
        store(row.to + i, fma(load(row.t + i), select(q > all(T(0)), on, off), all(bend.mix) * (q * on)));
    }
}

template <class T>
Bend<T> constants(double slope, double bend, double scale, double mix) {
    Bend<T> made{};
    made.h = T(scale * bend * bend / 2);
    made.lin = T(scale * (slope * slope + slope * bend));
    made.slope2 = T(scale * slope * slope);
    made.cross = T(scale * slope * bend / 2);
    made.scale = T(scale), made.mix = T(mix);
    const double unit = scale * bend * bend / (2 * 3.14159265358979323846 * double(UNIT<T>));
    for (int i = 0; i <= Series<T>::degree_p; ++i) made.p[i] = T(unit * double(Series<T>::p[i]));
    for (int i = 0; i <= Series<T>::degree_q; ++i) made.q[i] = T(unit * double(Series<T>::q[i]));
    return made;
}

}  // namespace
}  // namespace GRAMIAN_ISA
}  // namespace gramian
