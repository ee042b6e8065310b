// The loops of planes_rows.h. Built once for each instruction set; see isa.h for what may be included here.
#include "planes_rows.h"

#include <math.h>

#include "planes_lanes.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

// acos(1 - w) = sqrt(w) P(w) and sqrt(1 - c^2) - c acos(c) = w^(3/2) Q(w) at c = 1 - w, 0 <= w <= 1: interpolated at
// Chebyshev points. Largest relative errors: float 1.3e-7 and 1.8e-8, double 1.3e-16 and 5e-17.
template <class T>
struct Series;
template <>
struct Series<float> {
    static constexpr int degree_p = 6, degree_q = 6;
    static constexpr float p[] = {1.41421367607f, 0.117840037153f, 0.0266900076927f, 0.00689672924592f, 0.00531428554876f, -0.00236626583225f, 0.00220765599555f};
    static constexpr float q[] = {0.9428090524147317791f,    0.04713939470348821004f,   0.007592717259707372507f,
                                  0.001658284705539279478f,  0.0007422619752514664841f, -0.0001762003550247599379f,
                                  0.0002344713665398918025f};
};
template <>
struct Series<double> {
    static constexpr int degree_p = 18, degree_q = 17;
    static constexpr double p[] = {
        1.414213562373095065,      0.1178511301977460431,     0.02651650429591616659,    0.007891816687096197651,
        0.002685411542950586423,   0.00098869370645919837,    0.0003837000361256814709,  0.0001525079718238568379,
        0.00007287068257137791541, -7.185800992367848025e-6,  0.00010871230018361807,    -0.0002049991934947368062,
        0.000348098747149824534,   -0.000430009451594947943,  0.0004006882818589302051,  -0.0002688464467735858936,
        0.0001242516786954812694,  -0.00003537835495282186848, 4.797541033020616554e-6};
    static constexpr double q[] = {
        0.9428090415820633618,     0.04714045207910577458,    0.007576144083861954588,   0.001753737068368670071,
        0.000488256075393192801,   0.0001521141993722163869,  0.00005109425451483467324, 0.00001834912684089705546,
        5.836728647242290266e-6,   5.465788068101836786e-6,   -6.112860617382241178e-6,  0.00001353453388167490822,
        -0.00001794891524368266119, 0.00001851914883541364082, -0.00001347812102930575723, 6.765053154679044918e-6,
        -2.076415085508716478e-6,  3.065898678582773391e-7};
};
constexpr float Series<float>::p[], Series<float>::q[];
constexpr double Series<double>::p[], Series<double>::q[];

// What rounding alone can make of 1 - |c|: a few units in the last place count as zero, as in the torch engine.
template <class T>
constexpr T few = sizeof(T) == 4 ? T(8 * 1.1920929e-7) : T(8 * 2.220446049250313e-16);

template <int degree, class T>
inline Lanes<T> horner(const T *coefficients, Lanes<T> w) {
    Lanes<T> sum = all(coefficients[degree]);
    for (int i = degree - 1; i >= 0; --i) sum = fma(sum, w, all(coefficients[i]));
    return sum;
}

template <class T, bool each>
inline Lanes<T> of_x(const T *x, Int at) {
    return each ? load(x + at * Lanes<T>::count) : all(x[at]);
}

// With s = sqrt(q q') and c = k / s: K' = h max(k, 0) + s A(|c|) + lin k, A = w^(3/2) Q(w) b^2 / 2 pi at w = 1 - |c|, and
// kdot = h - a where c > 0, else a, with a = acos(|c|) b^2 / 2 pi. The sign of c chooses because A(-c) = A(c) + pi c.
template <class T, bool each, bool theta, bool leaky, bool mask, bool count>
void relu_row(const DualRow<T> &row, const Bend<T> &bend) {
    constexpr Int V = Lanes<T>::count;
    using S = Series<T>;
    const Lanes<T> one = all(T(1)), zero = all(T(0)), tiny = all(few<T>), h = all(bend.h), lin = all(bend.lin);
    T p[S::degree_p + 1], q[S::degree_q + 1];  // copies, which no store can change
    for (int i = 0; i <= S::degree_p; ++i) p[i] = bend.p[i];
    for (int i = 0; i <= S::degree_q; ++i) q[i] = bend.q[i];
    const Lanes<T> least = all(sizeof(T) == 4 ? T(1e-36) : T(1e-300)), cross = all(bend.cross), slope2 = all(bend.slope2);
    const DualRow<T> r = row;
    Lanes<T> far = zero, close = zero;
    Int column = 0;
    const T *x = r.x, *y = r.y;
    for (Int i = 0; i < r.w * r.rows; ++i) {
        const Lanes<T> k = load(r.k + i * V);
        const Lanes<T> at_x = of_x<T, each>(x, column), at_y = load(y + column * V), s = at_x * at_y;
        const Lanes<T> c = k / max(s, least);  // 0 where a variance is 0, as k is
        Lanes<T> w = one - abs(c);
        if (sizeof(T) == 4) far = select(w > tiny, far + one, far);
        if (count) close = close + select(w > all(T(1e-3)), zero, one);
        w = keep(w > tiny, w);
        const Lanes<T> root = sqrt(w);
        Lanes<T> out = fma(s, (w * root) * horner<S::degree_q>(q, w), h * max(k, zero));
        if (leaky) out = fma(lin, k, out);
        store(r.ko + i * V, out);
        if (theta) {
            const Lanes<T> angle = root * horner<S::degree_p>(p, w);
            Lanes<T> kdot = select(c > zero, h - angle, angle);
            if (mask) {  // a position of variance 0 has slope relu'(0) = 0
                const Lanes<T> on_x = keep(at_x > zero, one), on_y = keep(at_y > zero, one);
                kdot = fma(cross, on_x + on_y, kdot * (on_x * on_y)) + slope2;
            } else if (leaky) {
                kdot = kdot + lin;
            }
            store(r.to + i * V, load(r.t + i * V) * kdot);
        }
        if (++column == r.w) column = 0, x += r.step_x, y += r.step_y;
    }
    if (sizeof(T) == 4) store(r.near, load(r.near) + (all(T(r.w * r.rows)) - far));
    if (count) store(r.close, load(r.close) + close);
}

template <class T, bool each, bool count>
void relu_counted(const DualRow<T> &row, const Bend<T> &bend, bool mask) {
    const bool leaky = bend.lin != 0 || bend.slope2 != 0;
    if (row.t == nullptr)
        leaky ? relu_row<T, each, false, true, false, count>(row, bend)
              : relu_row<T, each, false, false, false, count>(row, bend);
    else if (mask)
        relu_row<T, each, true, true, true, count>(row, bend);
    else
        leaky ? relu_row<T, each, true, true, false, count>(row, bend)
              : relu_row<T, each, true, false, false, count>(row, bend);
}

template <class T, bool each>
void relu(const DualRow<T> &row, const Bend<T> &bend, bool mask) {
    if (sizeof(T) == 4 && row.close != nullptr)
        relu_counted<T, each, sizeof(T) == 4>(row, bend, mask);
    else
        relu_counted<T, each, false>(row, bend, mask);
}

template <class T>
void relu_same(const DualRow<T> &row, const Bend<T> &bend) {
    constexpr Int V = Lanes<T>::count;
    for (Int i = 0; i < row.w * row.rows * V; i += V) {
        const Lanes<T> q = load(row.k + i), on = all(bend.lin + bend.h), off = all(bend.slope2);
        store(row.ko + i, q * on);
        if (row.t != nullptr) store(row.to + i, load(row.t + i) * select(q > all(T(0)), on, off));
    }
}

template <class T>
Bend<T> constants(double slope, double bend) {
    Bend<T> made{};
    made.h = T(bend * bend / 2);
    made.lin = T(slope * slope + slope * bend);
    made.slope2 = T(slope * slope);
    made.cross = T(slope * bend / 2);
    const double unit = bend * bend / (2 * 3.14159265358979323846);
    for (int i = 0; i <= Series<T>::degree_p; ++i) made.p[i] = T(unit * double(Series<T>::p[i]));
    for (int i = 0; i <= Series<T>::degree_q; ++i) made.q[i] = T(unit * double(Series<T>::q[i]));
    return made;
}

// K' = 2/pi asin(c), kdot = 4/pi r r' / sqrt(1 - c^2) at c = 2 k r r'; near 0 by asin(a) = (a / sqrt 2) P(2 a^2).
template <class T, bool each>
void erf_row(const DualRow<T> &row) {
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
        store(row.ko + i * V, with_sign(asin * all(2 / pi), c));
        if (row.t != nullptr) {
            const Lanes<T> slope = all(4 / pi) * rr / sqrt(max(rest * (one + a), all(few<T>)));
            store(row.to + i * V, load(row.t + i * V) * slope);
        }
        if (++column == row.w) column = 0, x += row.step_x, y += row.step_y;
    }
    if (sizeof(T) == 4) store(row.near, load(row.near) + near);
}

template <class T>
void erf_one(const DualRow<T> &row) { erf_row<T, false>(row); }
template <class T>
void erf_each(const DualRow<T> &row) { erf_row<T, true>(row); }

template <class T, bool each>
void input(Int w, Int c, const T *x, const T *y, T *k) {
    constexpr Int V = Lanes<T>::count;
    for (Int i = 0; i < w; ++i) {
        Lanes<T> total = of_x<T, each>(x, i * c) * load(y + i * c * V);
        for (Int at = i * c + 1; at < (i + 1) * c; ++at) total = fma(of_x<T, each>(x, at), load(y + at * V), total);
        store(k + i * V, total);
    }
}

// Three rows, three columns, stride 1, zeros outside: sums over the rows stay in registers.
template <class T, bool theta, bool wants>
void box3(const BoxRow<T> &row) {
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
        store(ko + i * V, fma(scale, sum, shift));
        if (wants) {
            Lanes<T> t = fma(from_k, sum, shift_t);
            if (theta) t = fma(scale, before_t + here_t + after_t, t);
            store(to + i * V, t);
        }
        before = here, here = after;
        before_t = here_t, here_t = after_t;
    }
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
        if (theta) return box3<T, true, true>(row);
        return wants ? box3<T, false, true>(row) : box3<T, false, false>(row);
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
                           relu<T, false>,   relu<T, true>, relu_same<T>,    erf_one<T>,     erf_each<T>,
                           box<T>,           add<T>,        sum<T>,          total<T>,       gather<T>};

}  // namespace

const Rows<float> *rows_float() { return &table<float>; }
const Rows<double> *rows_double() { return &table<double>; }

}  // namespace GRAMIAN_ISA
}  // namespace gramian
