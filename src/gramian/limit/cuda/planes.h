// Displacement planes of convolutional networks: a warp takes a pair of images through all layers, plane by plane.
//
// A network is a list of ops on one value at hand (`Held`), with places where others are kept (limit/cuda/plane_schedule.py).
// Displacements wrap around where they can: the planes e and e - size have together as many entries as the image, and
// share one plane of full size, in which x' = x + e modulo the size. ROWS: rows that are held in registers, a lane for
// each column; 0: values lie in memory, for images or windows that do not fit.

enum Kind : int { input = 0, affine = 1, relu = 2, erf_kind = 3, add = 4, scale = 5, keep = 6, take = 7 };

// 16 numbers each; `scale_y` e is the displacement of the result where e is that of the last value with positions.
struct Op {
    int kind, place, h_in, w_in, h, w, window_y, window_x, stride_y, stride_x, before_y, before_x, step_y, step_x,
        scale_y, scale_x;
};
struct Head {
    int ops, channels, positions, variances, wrap_y, wrap_x, first_y, shifts_y, first_x, shifts_x, width, together,
        masked, same, dual, size;  // dual: numbers of one value of one warp in memory; size: of all of them
};

struct Job {  // the planes that the warp is at
    int ey;
    Index ex, column;
    Mask on;
    int wrap_y, wrap_x;
    const REAL *x, *y, *spread_x, *spread_y;
    REAL *memory;
};
struct Counts {  // float: positions where rounding decides (k = +-s), and of displacement 0 where 1 - |c| < 1e-3
    Lanes near, close;
};

DEVICE Index met(Index p, Index e, int size, int wrap) {
    p = p + e;
    return select_index((p >= size) & Mask(wrap != 0), p - size, p);
}
DEVICE Mask inside(Index p, int size) { return (p >= 0) & (p < size); }

DEVICE Lanes cosine(Lanes k, Lanes s) { return divide(k, maximum(s, SINGLE ? REAL(1e-36) : REAL(1e-300))); }
DEVICE Lanes close_to(Lanes k, Lanes s, Mask valid) {
    return select(valid & !(REAL(1) - absolute(cosine(k, s)) > REAL(1e-3)), REAL(1), REAL(0));
}

// With s = sqrt(q q') and c = k / s: K' = h max(k, 0) + s A(|c|) + lin k, A = w^(3/2) Q(w) b^2 / 2 pi at w = 1 - |c|, and
// kdot = h - a where c > 0, else a, with a = acos(|c|) b^2 / 2 pi. The sign of c chooses because A(-c) = A(c) + pi c.
// p: h, lin, slope2, cross, b^2 / 2 pi, own. `general`: with a slope below 0, or slopes of its own at variance 0.
// What is not valid is not read; `same`, in double only: equal inputs.
DEVICE void relu_step(Lanes &k, Lanes &t, Lanes at_x, Lanes at_y, const double *p, int general, Mask valid, Mask same,
                      Counts &counts) {
    const REAL few = SINGLE ? REAL(8 * 1.1920929e-7) : REAL(8 * 2.220446049250313e-16), one = 1, zero = 0;
    const REAL h = REAL(p[0]), lin = REAL(p[1]), slope2 = REAL(p[2]), cross = REAL(p[3]), unit = REAL(p[4]);
    const Lanes s = at_x * at_y, c = cosine(k, s);
    Lanes w = one - absolute(c);
#if SINGLE
    counts.near = counts.near + select(valid & !(w > few), one, zero);
#endif
    w = select(w > few, w, zero);
    const Lanes side = unit * root(w);
    Lanes out = fused(s, (w * side) * area(w), h * maximum(k, zero));
    if (general) out = fused(k, lin, out);
#if NTK
    const Lanes a = side * angle(w);
    Lanes kdot = select(c > zero, h - a, a);
    if (general) {  // a position of variance 0 has slope relu'(0)
        const Lanes on_x = select(at_x > zero, one, zero), on_y = select(at_y > zero, one, zero);
        kdot = fused(kdot, on_x * on_y, cross * (on_x + on_y) + slope2);
    }
#if !SINGLE
    kdot = select(same, select(k > zero, lin + h, slope2), kdot);
#endif
    t = t * kdot;
#endif
#if !SINGLE
    out = select(same, k * (lin + h), out);
#endif
#if NTK
    t = fused(out, REAL(p[5]), t);
#endif
    k = out;
}

// K' = 2/pi asin(c), kdot = 4/pi r r' / sqrt(1 - c^2) at c = 2 k r r'; near 0 by asin(a) = (a / sqrt 2) P(2 a^2).
DEVICE void erf_step(Lanes &k, Lanes &t, Lanes at_x, Lanes at_y, Mask valid, Counts &counts) {
    const REAL few = SINGLE ? REAL(8 * 1.1920929e-7) : REAL(8 * 2.220446049250313e-16), one = 1, zero = 0;
    const Lanes rr = at_x * at_y, c = k * (rr + rr), a = absolute(c), rest = maximum(one - a, zero);
    const Mask small = a < REAL(0.5);
#if SINGLE
    counts.near = counts.near + select(valid & !(rest > REAL(1e-3)), one, zero);
#endif
    const Lanes w = select(small, (a + a) * a, rest);
    const Lanes v = select(small, a * REAL(0.70710678118654752440), root(w)) * angle(w);
    const Lanes asin = select(small, v, PI / 2 - v);
#if NTK
    t = t * divide(REAL(4 / 3.14159265358979323846) * rr, root(maximum(rest * (one + a), few)));
#endif
    k = with_sign(asin * REAL(2 / 3.14159265358979323846), c);
}

DEVICE Lanes product(const Job &job, const Head &head, Index at, Index other, Mask valid) {
    Lanes sum = REAL(0);
    for (int c = 0; c < head.channels; ++c)
        sum = fused(load(job.x + Int(c) * head.positions, at, valid), load(job.y + Int(c) * head.positions, other, valid),
                    sum);
    return sum * REAL(1.0 / head.channels);
}
