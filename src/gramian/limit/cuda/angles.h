// The angle between two values over a warp's lanes, by the polynomials of arccos.h.

#define PI REAL(3.14159265358979323846)

template <int degree>
DEVICE Lanes horner(const REAL (&c)[degree + 1], Lanes w) {
    Lanes sum = c[degree];
    UNROLL for (int i = degree - 1; i >= 0; --i) sum = fused(sum, w, c[i]);
    return sum;
}

DEVICE Lanes angle(Lanes w) {
#if SINGLE
    const REAL c[7] = {ARCCOS_FLOAT(AS_IT_IS)};
    return horner<6>(c, w);
#else
    const REAL c[19] = {ARCCOS_DOUBLE(AS_IT_IS)};
    return horner<18>(c, w);
#endif
}

DEVICE Lanes area(Lanes w) {
#if SINGLE
    const REAL c[6] = {AREA_FLOAT(AS_IT_IS)};
    return horner<5>(c, w);
#else
    const REAL c[18] = {AREA_DOUBLE(AS_IT_IS)};
    return horner<17>(c, w);
#endif
}
