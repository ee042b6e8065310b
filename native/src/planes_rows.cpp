// The loops of planes_rows.h. Built once for each instruction set; see isa.h for what may be included here.
#include "planes_rows.h"

#include <math.h>

#include "planes_lanes.h"
#include "planes_relu.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

// K' = 2/pi asin(c), kdot = 4/pi r r' / sqrt(1 - c^2) at c = 2 k r r'; near 0 by asin(a) = (a / sqrt 2) P(2 a^2).
template <class T, bool each>
void erf_row(const DualRow<T> &row, const Bend<T> &bend) {
    constexpr Int V = Lanes<T>::count;
    using S = Series<T>;
    const T pi = T(3.14159265358979323846);
    const Lanes<T> one = all(T(1)), half = all(T(0.5)), zero = all(T(0));
    Lanes<T> near = zero;
    Int column = 0;
    const T *x = row.x, *y = row.y;
    for (Int i = 0; i < row.w * row.rows; ++i) {
        const Lanes<T> rr = of_x<T, each>(x, column) * load(y + column * V);
        const Lanes<T> c = load(row.k + i * V) * (rr + rr);
        const Lanes<T> a = abs(c), rest = max(one - a, zero);
        const auto small = half > a;
        if (sizeof(T) == 4) near = near + select(rest > all(T(1e-3)), zero, one);
        const Lanes<T> w = select(small, (a + a) * a, rest);
        const Lanes<T> z = select(small, a * all(T(0.70710678118654752440)), sqrt(w));
        const Lanes<T> v = z * horner<S::degree_p>(S::p, w);
        const Lanes<T> asin = select(small, v, all(pi / 2) - v);
        const Lanes<T> out = with_sign(asin * all(bend.scale * 2 / pi), c);
        store(row.ko + i * V, out);
        if (row.t != nullptr) {
            const Lanes<T> slope = all(bend.scale * 4 / pi) * rr / sqrt(max(rest * (one + a), all(few<T>)));
            store(row.to + i * V, fma(load(row.t + i * V), slope, all(bend.mix) * out));
        }
        if (++column == row.w) column = 0, x += row.step_x, y += row.step_y;
    }
    if (sizeof(T) == 4) store(row.near, load(row.near) + near);
}

template <class T>
void erf_one(const DualRow<T> &row, const Bend<T> &bend) { erf_row<T, false>(row, bend); }
template <class T>
void erf_each(const DualRow<T> &row, const Bend<T> &bend) { erf_row<T, true>(row, bend); }

// K' = sum of a_r(q) a_r(q') c^r, kdot the same of the derivative's terms, by Horner's rule.
template <class T, bool each>
void series(const SeriesRow<T> &row) {
    constexpr Int V = Lanes<T>::count, xs = each ? V : 1;
    DualRow<T> r = row.dual;
    const Int step = r.w * V, terms = row.terms, per = 2 * terms;
    const Lanes<T> least = all(sizeof(T) == 4 ? T(1e-36) : T(1e-300));
    const T *a_x = row.a_x, *a_y = row.a_y;
    for (Int y = 0; y < r.rows; ++y) {
        for (Int i = 0; i < r.w; ++i) {
            const Lanes<T> s = of_x<T, each>(r.x, i) * load(r.y + i * V);
            const Lanes<T> c = keep_quotient(s > least, load(r.k + i * V), s);
            const T *x = a_x + i * per * xs, *z = a_y + i * per * V;
            Lanes<T> k = all(T(0)), kdot = k;
            for (Int n = terms - 1; n >= 0; --n) {
                k = fma(k, c, of_x<T, each>(x, n) * load(z + n * V));
                if (r.t != nullptr) kdot = fma(kdot, c, of_x<T, each>(x, terms + n) * load(z + (terms + n) * V));
            }
            k = all(row.scale) * k;
            store(r.ko + i * V, k);
            if (r.t != nullptr) store(r.to + i * V, fma(all(row.scale) * kdot, load(r.t + i * V), all(row.mix) * k));
        }
        next_row<T, each>(r), r.k += step, r.ko += step;
        if (r.t != nullptr) r.t += step, r.to += step;
        a_x += r.step_x * per, a_y += r.step_y * per;
    }
}

template <class T, bool each>
void input(Int w, Int c, const T *x, const T *y, T *k) {
    constexpr Int V = Lanes<T>::count;
    for (Int i = 0; i < w; ++i) {
        Lanes<T> total = of_x<T, each>(x, i * c) * load(y + i * c * V);
        for (Int at = i * c + 1; at < (i + 1) * c; ++at) total = fma(of_x<T, each>(x, at), load(y + at * V), total);
        store(k + i * V, total);
    }
}

// Three rows, three columns, stride 1, zeros outside: sums over the rows stay in registers. `plain`: nothing but sums.
template <class T, bool theta, bool wants, bool plain>
INLINE void box3(const BoxRow<T> &row) {
    constexpr Int V = Lanes<T>::count;
    const Lanes<T> scale = all(row.p[0]), shift = all(row.p[1]), from_k = all(row.p[2]), shift_t = all(row.p[3]);
    const T *k0 = row.k[0], *k1 = row.k[1], *k2 = row.k[2];
    const T *t0 = theta ? row.t[0] : nullptr, *t1 = theta ? row.t[1] : nullptr, *t2 = theta ? row.t[2] : nullptr;
    T *const ko = row.ko, *const to = row.to;
    const Int w = row.w;
    Lanes<T> before = all(T(0)), before_t = before, here_t = before;
    Lanes<T> here = load(k0) + load(k1) + load(k2);
    if (theta) here_t = load(t0) + load(t1) + load(t2);
    for (Int i = 0; i < w; ++i) {
        Lanes<T> after = all(T(0)), after_t = after;
        const Int at = (i + 1) * V;
        if (i + 1 < w) {
            after = load(k0 + at) + load(k1 + at) + load(k2 + at);
            if (theta) after_t = load(t0 + at) + load(t1 + at) + load(t2 + at);
        }
        const Lanes<T> sum = before + here + after;
        store(ko + i * V, plain ? sum : fma(scale, sum, shift));
        if (plain) {
            if (wants) store(to + i * V, before_t + here_t + after_t);
        } else if (wants) {
            Lanes<T> t = fma(from_k, sum, shift_t);
            if (theta) t = fma(scale, before_t + here_t + after_t, t);
            store(to + i * V, t);
        }
        before = here, here = after;
        before_t = here_t, here_t = after_t;
    }
}

template <class T, bool theta, bool wants>
INLINE void box_of(const BoxRow<T> &row) {
    const bool plain = row.p[0] == 1 && row.p[1] == 0 && row.p[2] == 0 && row.p[3] == 0;
    plain ? box3<T, theta, wants, true>(row) : box3<T, theta, wants, false>(row);
}

template <class T, bool each, bool theta, bool leaky, bool mask, bool sums, bool count>
struct BothRows {
    static void run(const Both<T> &both, const Bend<T> &bend) {
        both.t != nullptr ? of<theta>(both, bend) : of<false>(both, bend);
    }
    template <bool from_t>
    static void of(const Both<T> &b, const Bend<T> &bend) {
        Ramp<T> ramp = ramp_of(bend);
        DualRow<T> r = b.dual;
        const Int step = r.w * Lanes<T>::count;
        const T *k[3], *t[3];
        BoxRow<T> row{};
        row.w = row.out = r.w, row.k = k, row.t = t;
        for (int i = 0; i < 4; ++i) row.p[i] = b.p[i];
        for (Int y = 0; y <= b.h; ++y) {  // sums over the rows around y, then the activation of the row before
            if (y < b.h) {
                for (Int i = 0; i < 3; ++i) {
                    const Int at = y + i - 1;
                    const bool inside = at >= 0 && at < b.h;
                    k[i] = inside ? b.k + at * step : b.zeros;
                    if (from_t) t[i] = inside ? b.t + at * step : b.zeros;
                }
                row.ko = b.sums + (y % 2) * 2 * step, row.to = row.ko + step;
                box_of<T, from_t, theta>(row);
            }
            if (y == 0) continue;
            r.k = b.sums + ((y - 1) % 2) * 2 * step, r.t = r.k + step;
            relu_row<T, each, theta, leaky, mask, sums, count>(r, ramp);
            next_row<T, each>(r), r.ko += step;
            if (theta) r.to += step;
        }
        told<T, count>(r, ramp, r.w * b.h);
    }
};

template <class T, bool each>
void both(const Both<T> &plane, const Bend<T> &bend, bool mask) {
    if (sizeof(T) == 4 && plane.dual.close != nullptr)
        relu_counted<BothRows, T, each, sizeof(T) == 4>(plane, plane.dual.to != nullptr, bend, mask);
    else
        relu_counted<BothRows, T, each, false>(plane, plane.dual.to != nullptr, bend, mask);
}

template <class T>
void column(const BoxRow<T> &row, const T *const *rows, T *out) {
    constexpr Int V = Lanes<T>::count;
    for (Int i = 0; i < row.w; ++i) {
        Lanes<T> total = load(rows[0] + i * V);
        for (Int tap = 1; tap < row.rows; ++tap) total = total + load(rows[tap] + i * V);
        store(out + i * V, total);
    }
}

template <class T>
inline Lanes<T> along(const BoxRow<T> &row, const T *sums, Int q) {
    Lanes<T> total = all(T(0));
    for (Int tap = 0; tap < row.taps; ++tap) {
        const Int at = row.start + row.stride * q + row.step * tap;
        if (at >= 0 && at < row.w) total = total + load(sums + at * Lanes<T>::count);
    }
    return total;
}

template <class T>
void box(const BoxRow<T> &row) {
    constexpr Int V = Lanes<T>::count;
    const bool theta = row.t != nullptr, wants = row.to != nullptr;
    if (row.rows == 3 && row.taps == 3 && row.start == -1 && row.stride == 1 && row.step == 1 && row.w == row.out) {
        const bool plain = row.p[0] == 1 && row.p[1] == 0 && row.p[2] == 0 && row.p[3] == 0;
        if (theta) return plain ? box3<T, true, true, true>(row) : box3<T, true, true, false>(row);
        return wants ? box3<T, false, true, false>(row) : box3<T, false, false, false>(row);
    }
    const T *sum_k = row.k[0], *sum_t = theta ? row.t[0] : nullptr;
    if (row.rows > 1) {
        column(row, row.k, row.sum_k), sum_k = row.sum_k;
        if (theta) column(row, row.t, row.sum_t), sum_t = row.sum_t;
    }
    const Lanes<T> scale = all(row.p[0]), shift = all(row.p[1]), from_k = all(row.p[2]), shift_t = all(row.p[3]);
    for (Int q = 0; q < row.out; ++q) {
        const Lanes<T> sum = along(row, sum_k, q);
        store(row.ko + q * V, fma(scale, sum, shift));
        if (wants) {
            Lanes<T> t = fma(from_k, sum, shift_t);
            if (theta) t = fma(scale, along(row, sum_t, q), t);
            store(row.to + q * V, t);
        }
    }
}

template <class T>
void add(Int w, T a, const T *x, T *out) {
    constexpr Int V = Lanes<T>::count;
    for (Int i = 0; i < w * V; i += V) store(out + i, fma(all(a), load(x + i), load(out + i)));
}

template <class T>
void sum(Int w, T a, const T *x, T b, const T *y, T c, T *out) {
    constexpr Int V = Lanes<T>::count;
    for (Int i = 0; i < w * V; i += V) {
        Lanes<T> total = all(c);
        if (x != nullptr) total = fma(all(a), load(x + i), total);
        if (y != nullptr) total = fma(all(b), load(y + i), total);
        store(out + i, total);
    }
}

template <class T>
void total(Int w, const T *x, double *out) {
    constexpr Int V = Lanes<T>::count;
    Lanes<T> row = all(T(0));
    for (Int i = 0; i < w * V; i += V) row = row + load(x + i);
    T lanes[V];
    store(lanes, row);
    for (Int lane = 0; lane < V; ++lane) out[lane] += double(lanes[lane]);
}

template <class T>
void gather(const Tap *taps, Int count, Int to0, Int from0, T a, const T *in, T *out) {
    constexpr Int V = Lanes<T>::count;
    for (const Tap *tap = taps; tap < taps + count; ++tap) {
        T *const to = out + (tap->to - to0) * V;
        store(to, fma(all(a * T(tap->weight)), load(in + (tap->from - from0) * V), load(to)));
    }
}

template <class T>
constexpr Rows<T> table = {Lanes<T>::count, input<T, false>, input<T, true>, constants<T>,
                           relu<T, false>,   relu<T, true>, relu_same<T>, both<T, false>, both<T, true>,   erf_one<T>,     erf_each<T>, series<T, false>, series<T, true>,
                           box<T>,           add<T>,        sum<T>,          total<T>,       gather<T>};

}  // namespace

const Rows<float> *rows_float() { return &table<float>; }
const Rows<double> *rows_double() { return &table<double>; }

}  // namespace GRAMIAN_ISA
}  // namespace gramian
