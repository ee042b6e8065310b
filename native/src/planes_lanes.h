// A register of numbers, `Lanes<T>`, as wide as the instruction set has them.
//
// GCC's and clang's vector types; elsewhere an array whose loops the compiler may turn into vectors. Everything has
// internal linkage or lives in `namespace GRAMIAN_ISA`: the linker must not swap copies of different instruction sets.
#pragma once

#include <math.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

#if defined(__AVX512F__)
constexpr long BYTES = 64;
#elif defined(__AVX2__)
constexpr long BYTES = 32;
#else
constexpr long BYTES = 16;
#endif

#if defined(__GNUC__)
typedef float FloatV __attribute__((vector_size(BYTES)));
typedef double DoubleV __attribute__((vector_size(BYTES)));
typedef int FloatMask __attribute__((vector_size(BYTES)));
typedef long long DoubleMask __attribute__((vector_size(BYTES)));

template <class T>
struct Native;
template <>
struct Native<float> {
    using V = FloatV;
    using Mask = FloatMask;
};
template <>
struct Native<double> {
    using V = DoubleV;
    using Mask = DoubleMask;
};

template <class T>
struct Lanes {
    static constexpr long long count = BYTES / sizeof(T);
    typename Native<T>::V v;
};
template <class T>
struct Mask {
    typename Native<T>::Mask v;
};

#define EACH static inline __attribute__((always_inline))
template <class T>
EACH Lanes<T> load(const T *p) {
    Lanes<T> r;
    __builtin_memcpy(&r.v, p, sizeof r.v);
    return r;
}
template <class T>
EACH void store(T *p, Lanes<T> a) { __builtin_memcpy(p, &a.v, sizeof a.v); }
template <class T>
EACH Lanes<T> all(T a) { return {a - typename Native<T>::V{}}; }  // a - 0 is a, bit by bit
template <class T>
EACH Lanes<T> operator+(Lanes<T> a, Lanes<T> b) { return {a.v + b.v}; }
template <class T>
EACH Lanes<T> operator-(Lanes<T> a, Lanes<T> b) { return {a.v - b.v}; }
template <class T>
EACH Lanes<T> operator*(Lanes<T> a, Lanes<T> b) { return {a.v * b.v}; }
template <class T>
EACH Lanes<T> operator/(Lanes<T> a, Lanes<T> b) { return {a.v / b.v}; }
template <class T>
EACH Lanes<T> fma(Lanes<T> a, Lanes<T> b, Lanes<T> c) { return {a.v * b.v + c.v}; }
template <class T>
EACH Mask<T> operator>(Lanes<T> a, Lanes<T> b) { return {a.v > b.v}; }
template <class T>
EACH Lanes<T> select(Mask<T> m, Lanes<T> a, Lanes<T> b) { return {m.v ? a.v : b.v}; }
template <class T>
EACH Lanes<T> keep(Mask<T> m, Lanes<T> a) { return {m.v ? a.v : typename Native<T>::V{}}; }
EACH Lanes<float> abs(Lanes<float> a) { return {(FloatV)((FloatMask)a.v & 0x7fffffff)}; }
EACH Lanes<double> abs(Lanes<double> a) { return {(DoubleV)((DoubleMask)a.v & 0x7fffffffffffffffLL)}; }
EACH Lanes<float> with_sign(Lanes<float> a, Lanes<float> s) {
    return {(FloatV)((FloatMask)a.v | ((FloatMask)s.v & (int)0x80000000))};
}
EACH Lanes<double> with_sign(Lanes<double> a, Lanes<double> s) {
    return {(DoubleV)((DoubleMask)a.v | ((DoubleMask)s.v & (long long)0x8000000000000000LL))};
}
// The compiler makes two instructions of a comparison that one could do.
#if defined(__AVX512F__)
EACH Lanes<float> max(Lanes<float> a, Lanes<float> b) { return {(FloatV)_mm512_maskz_max_ps((__mmask16)-1, (__m512)a.v, (__m512)b.v)}; }
EACH Lanes<double> max(Lanes<double> a, Lanes<double> b) { return {(DoubleV)_mm512_maskz_max_pd((__mmask8)-1, (__m512d)a.v, (__m512d)b.v)}; }
EACH Lanes<float> sqrt(Lanes<float> a) { return {(FloatV)_mm512_maskz_sqrt_ps((__mmask16)-1, (__m512)a.v)}; }
EACH Lanes<double> sqrt(Lanes<double> a) { return {(DoubleV)_mm512_maskz_sqrt_pd((__mmask8)-1, (__m512d)a.v)}; }
#elif defined(__AVX2__)
EACH Lanes<float> max(Lanes<float> a, Lanes<float> b) { return {(FloatV)_mm256_max_ps((__m256)a.v, (__m256)b.v)}; }
EACH Lanes<double> max(Lanes<double> a, Lanes<double> b) { return {(DoubleV)_mm256_max_pd((__m256d)a.v, (__m256d)b.v)}; }
EACH Lanes<float> sqrt(Lanes<float> a) { return {(FloatV)_mm256_sqrt_ps((__m256)a.v)}; }
EACH Lanes<double> sqrt(Lanes<double> a) { return {(DoubleV)_mm256_sqrt_pd((__m256d)a.v)}; }
#else
template <class T>
EACH Lanes<T> max(Lanes<T> a, Lanes<T> b) { return {a.v > b.v ? a.v : b.v}; }
EACH Lanes<float> sqrt(Lanes<float> a) {
    for (int i = 0; i < Lanes<float>::count; ++i) a.v[i] = sqrtf(a.v[i]);
    return a;
}
EACH Lanes<double> sqrt(Lanes<double> a) {
    for (int i = 0; i < Lanes<double>::count; ++i) a.v[i] = ::sqrt(a.v[i]);
    return a;
}
#endif
#undef EACH

#else
template <class T>
struct Lanes {
    static constexpr long long count = BYTES / sizeof(T);
    T v[BYTES / sizeof(T)];
};
template <class T>
struct Mask {
    bool v[BYTES / sizeof(T)];
};
#define LANEWISE(type, expression)                                         \
    {                                                                      \
        type r;                                                            \
        for (long long i = 0; i < Lanes<T>::count; ++i) r.v[i] = (expression);  \
        return r;                                                          \
    }
template <class T>
static inline Lanes<T> load(const T *p) LANEWISE(Lanes<T>, p[i])
template <class T>
static inline void store(T *p, Lanes<T> a) { for (long long i = 0; i < Lanes<T>::count; ++i) p[i] = a.v[i]; }
template <class T>
static inline Lanes<T> all(T a) LANEWISE(Lanes<T>, a)
template <class T>
static inline Lanes<T> operator+(Lanes<T> a, Lanes<T> b) LANEWISE(Lanes<T>, a.v[i] + b.v[i])
template <class T>
static inline Lanes<T> operator-(Lanes<T> a, Lanes<T> b) LANEWISE(Lanes<T>, a.v[i] - b.v[i])
template <class T>
static inline Lanes<T> operator*(Lanes<T> a, Lanes<T> b) LANEWISE(Lanes<T>, a.v[i] * b.v[i])
template <class T>
static inline Lanes<T> operator/(Lanes<T> a, Lanes<T> b) LANEWISE(Lanes<T>, a.v[i] / b.v[i])
template <class T>
static inline Lanes<T> fma(Lanes<T> a, Lanes<T> b, Lanes<T> c) LANEWISE(Lanes<T>, a.v[i] * b.v[i] + c.v[i])
template <class T>
static inline Mask<T> operator>(Lanes<T> a, Lanes<T> b) LANEWISE(Mask<T>, a.v[i] > b.v[i])
template <class T>
static inline Lanes<T> select(Mask<T> m, Lanes<T> a, Lanes<T> b) LANEWISE(Lanes<T>, m.v[i] ? a.v[i] : b.v[i])
template <class T>
static inline Lanes<T> keep(Mask<T> m, Lanes<T> a) LANEWISE(Lanes<T>, m.v[i] ? a.v[i] : T(0))
template <class T>
static inline Lanes<T> max(Lanes<T> a, Lanes<T> b) LANEWISE(Lanes<T>, a.v[i] > b.v[i] ? a.v[i] : b.v[i])
template <class T>
static inline Lanes<T> abs(Lanes<T> a) LANEWISE(Lanes<T>, a.v[i] < 0 ? -a.v[i] : a.v[i])
template <class T>
static inline Lanes<T> with_sign(Lanes<T> a, Lanes<T> s) LANEWISE(Lanes<T>, s.v[i] < 0 ? -a.v[i] : a.v[i])
template <class T>
static inline Lanes<T> sqrt(Lanes<T> a) LANEWISE(Lanes<T>, T(::sqrt(a.v[i])))
#undef LANEWISE
#endif

}  // namespace
}  // namespace GRAMIAN_ISA
}  // namespace gramian
