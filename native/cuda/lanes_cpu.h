// The words of src/gramian/limit/cuda/lanes.h for a C++ compiler: a warp is an array of 32 numbers, and a kernel a
// function that is called once for each warp. For tests: it is slow.
#include <cmath>

typedef long long Int;

template <class T>
struct Each;
template <>
struct Each<bool> {
    bool v[32];
    Each() : v{} {}
    Each(bool a) { for (bool &to : v) to = a; }
    friend Each operator&(const Each &a, const Each &b) {
        Each r;
        for (int i = 0; i < 32; ++i) r.v[i] = a.v[i] && b.v[i];
        return r;
    }
    friend Each operator!(const Each &a) {
        Each r;
        for (int i = 0; i < 32; ++i) r.v[i] = !a.v[i];
        return r;
    }
};

template <class T>
struct Each {
    T v[32];
    Each() : v{} {}
    Each(T a) { for (T &to : v) to = a; }
#define BINARY(type, op)                                          \
    friend Each<type> operator op(const Each &a, const Each &b) { \
        Each<type> r;                                             \
        for (int i = 0; i < 32; ++i) r.v[i] = a.v[i] op b.v[i];   \
        return r;                                                 \
    }
    BINARY(T, +) BINARY(T, -) BINARY(T, *) BINARY(T, /)
    BINARY(bool, <) BINARY(bool, >) BINARY(bool, >=) BINARY(bool, <=) BINARY(bool, ==)
#undef BINARY
};
typedef Each<REAL> Lanes;
typedef Each<double> Wide;
typedef Each<int> Index;
typedef Each<bool> Mask;

#define DEVICE static inline
#define KERNEL extern "C" void
#define UNROLL
#define ROLLED

static Int warp_now = 0, warps_all = 1;
extern "C" void set_warp(Int number, Int count) { warp_now = number, warps_all = count; }

DEVICE Index lane_number() {
    Index r;
    for (int i = 0; i < 32; ++i) r.v[i] = i;
    return r;
}
DEVICE Int warp_number() { return warp_now; }
DEVICE Int warp_count() { return warps_all; }
DEVICE void sync() {}

#define LANEWISE(type, expression)                              \
    {                                                           \
        type r;                                                 \
        for (int i = 0; i < 32; ++i) r.v[i] = (expression);     \
        return r;                                               \
    }
DEVICE Lanes select(Mask m, Lanes a, Lanes b) LANEWISE(Lanes, m.v[i] ? a.v[i] : b.v[i])
DEVICE Index select_index(Mask m, Index a, Index b) LANEWISE(Index, m.v[i] ? a.v[i] : b.v[i])
DEVICE Lanes absolute(Lanes a) LANEWISE(Lanes, a.v[i] < 0 ? -a.v[i] : a.v[i])
DEVICE Lanes maximum(Lanes a, Lanes b) LANEWISE(Lanes, a.v[i] > b.v[i] ? a.v[i] : b.v[i])
DEVICE Lanes with_sign(Lanes a, Lanes s) LANEWISE(Lanes, s.v[i] < 0 ? -a.v[i] : a.v[i])
DEVICE Lanes fused(Lanes a, Lanes b, Lanes c) LANEWISE(Lanes, std::fma(a.v[i], b.v[i], c.v[i]))
DEVICE Lanes divide(Lanes a, Lanes b) LANEWISE(Lanes, a.v[i] / b.v[i])
DEVICE Lanes root(Lanes a) LANEWISE(Lanes, std::sqrt(a.v[i]))
template <class T>
DEVICE Each<T> load(const T *p, Index at, Mask m) LANEWISE(Each<T>, m.v[i] ? p[at.v[i]] : T(0))
template <class T>
DEVICE void store(T *p, Index at, Each<T> a, Mask m) {
    for (int i = 0; i < 32; ++i)
        if (m.v[i]) p[at.v[i]] = a.v[i];
}
DEVICE Lanes shuffle(Lanes a, Index from) LANEWISE(Lanes, a.v[from.v[i] & 31])
DEVICE unsigned votes(Mask m) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= unsigned(m.v[i]) << i;
    return r;
}
DEVICE Wide widen(Lanes a) LANEWISE(Wide, a.v[i])
DEVICE double total(Wide a) {
    for (int step = 16; step > 0; step >>= 1) {
        Wide b = a;
        for (int i = 0; i < 32; ++i) b.v[i] = a.v[i] + a.v[i ^ step];
        a = b;
    }
    return a.v[0];
}
