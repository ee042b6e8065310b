// A register of numbers, `Lanes<T>`, as wide as the instruction set has them.
//
// GCC's and clang's vector types; elsewhere an array whose loops the compiler may turn into vectors. Everything has
// internal linkage or lives in `namespace GRAMIAN_ISA`: the linker must not swap copies of different instruction sets.
#pragma once

#include <math.h>

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define INLINE __forceinline
#else
#define INLINE inline
#endif

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
    using Bits = unsigned short;
};
template <>
struct Native<double> {
    using V = DoubleV;
    using Mask = DoubleMask;
    using Bits = unsigned char;
};

template <class T>
struct Lanes {
    static constexpr long long count = BYTES / sizeof(T);
    typename Native<T>::V v;
};
#if defined(__AVX512F__)
template <class T>
struct Mask {
    typename Native<T>::Bits v;
};
#else
template <class T>
struct Mask {
    typename Native<T>::Mask v;
};
#endif

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
EACH Lanes<float> abs(Lanes<float> a) { return {(FloatV)((FloatMask)a.v & 0x7fffffff)}; }
EACH Lanes<double> abs(Lanes<double> a) { return {(DoubleV)((DoubleMask)a.v & 0x7fffffffffffffffLL)}; }
EACH Lanes<float> with_sign(Lanes<float> a, Lanes<float> s) {
    return {(FloatV)((FloatMask)a.v | ((FloatMask)s.v & (int)0x80000000))};
}
EACH Lanes<double> with_sign(Lanes<double> a, Lanes<double> s) {
    return {(DoubleV)((DoubleMask)a.v | ((DoubleMask)s.v & (long long)0x8000000000000000LL))};
}
// Written out where the compiler makes more instructions than there need be: of comparisons, masks and roots.
#if defined(__AVX512F__)
EACH Mask<float> operator>(Lanes<float> a, Lanes<float> b) { return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, _CMP_GT_OQ)}; }
EACH Mask<double> operator>(Lanes<double> a, Lanes<double> b) { return {_mm512_cmp_pd_mask((__m512d)a.v, (__m512d)b.v, _CMP_GT_OQ)}; }
EACH Lanes<float> select(Mask<float> m, Lanes<float> a, Lanes<float> b) { return {(FloatV)_mm512_mask_mov_ps((__m512)b.v, m.v, (__m512)a.v)}; }
EACH Lanes<double> select(Mask<double> m, Lanes<double> a, Lanes<double> b) { return {(DoubleV)_mm512_mask_mov_pd((__m512d)b.v, m.v, (__m512d)a.v)}; }
EACH Lanes<float> keep(Mask<float> m, Lanes<float> a) { return {(FloatV)_mm512_maskz_mov_ps(m.v, (__m512)a.v)}; }
EACH Lanes<double> keep(Mask<double> m, Lanes<double> a) { return {(DoubleV)_mm512_maskz_mov_pd(m.v, (__m512d)a.v)}; }
EACH Lanes<float> max(Lanes<float> a, Lanes<float> b) { return {(FloatV)_mm512_maskz_max_ps((__mmask16)-1, (__m512)a.v, (__m512)b.v)}; }
EACH Lanes<double> max(Lanes<double> a, Lanes<double> b) { return {(DoubleV)_mm512_maskz_max_pd((__mmask8)-1, (__m512d)a.v, (__m512d)b.v)}; }
EACH Lanes<float> sqrt(Lanes<float> a) { return {(FloatV)_mm512_maskz_sqrt_ps((__mmask16)-1, (__m512)a.v)}; }
EACH Lanes<double> sqrt(Lanes<double> a) { return {(DoubleV)_mm512_maskz_sqrt_pd((__mmask8)-1, (__m512d)a.v)}; }
// UNIT<T> sqrt(a) where m, else 0. In float one step of Newton's from 14 bits: three operations and no division's unit.
EACH Lanes<float> keep_root(Mask<float> m, Lanes<float> a) {
    const __m512 w = (__m512)a.v, y = _mm512_maskz_rsqrt14_ps(m.v, w), r = _mm512_mul_ps(w, y);
    return {(FloatV)_mm512_mul_ps(r, _mm512_fmadd_ps(r, y, _mm512_set1_ps(-3.0f)))};
}
EACH Lanes<double> keep_root(Mask<double> m, Lanes<double> a) { return {(DoubleV)_mm512_maskz_sqrt_pd(m.v, (__m512d)a.v)}; }
// a / b where m, else 0.
EACH Lanes<float> keep_quotient(Mask<float> m, Lanes<float> a, Lanes<float> b) { return {(FloatV)_mm512_maskz_div_ps(m.v, (__m512)a.v, (__m512)b.v)}; }
EACH Lanes<double> keep_quotient(Mask<double> m, Lanes<double> a, Lanes<double> b) { return {(DoubleV)_mm512_maskz_div_pd(m.v, (__m512d)a.v, (__m512d)b.v)}; }
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
#if !defined(__AVX512F__)
template <class T>
EACH Mask<T> operator>(Lanes<T> a, Lanes<T> b) { return {a.v > b.v}; }
template <class T>
EACH Lanes<T> select(Mask<T> m, Lanes<T> a, Lanes<T> b) { return {m.v ? a.v : b.v}; }
template <class T>
EACH Lanes<T> keep(Mask<T> m, Lanes<T> a) { return {m.v ? a.v : typename Native<T>::V{}}; }
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

#if defined(__GNUC__) && defined(__AVX512F__)
template <class T>
constexpr T UNIT = sizeof(T) == 4 ? T(-2) : T(1);
#else
template <class T>
constexpr T UNIT = T(1);
template <class T>
static inline Lanes<T> keep_root(Mask<T> m, Lanes<T> a) { return sqrt(keep(m, a)); }
template <class T>
static inline Lanes<T> keep_quotient(Mask<T> m, Lanes<T> a, Lanes<T> b) { return keep(m, a / b); }
#endif

}  // namespace
}  // namespace GRAMIAN_ISA
}  // namespace gramian
