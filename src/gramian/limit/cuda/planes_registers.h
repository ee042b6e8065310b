// A value in registers: a lane for each column, images of a warp's width side by side.

struct Held {
    Lanes k[ROWS];
#if NTK
    Lanes t[ROWS];
#endif
};

DEVICE Lanes at_row(const Lanes (&v)[ROWS], int row) { return row >= 0 && row < ROWS ? v[row] : Lanes(REAL(0)); }

// Sums over `TAPS` (1, or 3 from -1 to 1) rows, then columns, one of S, in place. What lies outside counts with weight 0;
// the middle of a window lies inside wherever the result does, and elsewhere nobody reads the result.
template <int TAPS, int S>
DEVICE void window(Lanes (&v)[ROWS], const Op &op, const Job &job) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x) * S, x = job.column * S;
    const Index from = lane_number() - job.column + x;
    const Lanes left = select(inside(x - 1, op.w_in) & inside(x2 - 1, op.w_in), REAL(1), REAL(0));
    const Lanes right = select(inside(x + 1, op.w_in) & inside(x2 + 1, op.w_in), REAL(1), REAL(0));
    Lanes last = REAL(0);  // the row above, before it was overwritten
    UNROLL for (int p = 0; p * S < ROWS; ++p) {
        const Lanes here = v[p * S];
        Lanes sum = here;
        if (TAPS == 3) {
            const int q = S * met_row(p, job.ey * op.scale_y, op.h, job.wrap_y);
            const Lanes above = S == 1 ? last : at_row(v, S * p - 1), below = at_row(v, S * p + 1);
            sum = fused(above, REAL(p > 0 && within(q - 1, op.h_in)), sum);
            sum = fused(below, REAL(S * p + 1 < op.h_in && within(q + 1, op.h_in)), sum);
        }
        last = here;
        v[p] = S == 1 ? sum : shuffle(sum, from);
        if (TAPS == 3) v[p] = fused(shuffle(sum, from - 1), left, fused(shuffle(sum, from + 1), right, v[p]));
    }
}

template <int TAPS, int S>
DEVICE void convolve(Held &v, const Op &op, const Job &job) {
    window<TAPS, S>(v.k, op, job);
#if NTK
    window<TAPS, S>(v.t, op, job);
#endif
}

DEVICE void linear(Held &v, const double *p) {
    const REAL p0 = REAL(p[0]), p1 = REAL(p[1]);
#if NTK
    const REAL p2 = REAL(p[2]), p3 = REAL(p[3]);
    UNROLL for (int y = 0; y < ROWS; ++y) v.t[y] = fused(v.t[y], p0, fused(v.k[y], p2, p3));
#endif
    UNROLL for (int y = 0; y < ROWS; ++y) v.k[y] = fused(v.k[y], p0, p1);
}

DEVICE void convolved(Held &v, const Op &op, const double *p, const Job &job) {
    if (op.stride_y == 1)
        convolve<3, 1>(v, op, job);
    else if (op.window_y == 3)
        convolve<3, 2>(v, op, job);
    else
        convolve<1, 2>(v, op, job);
    linear(v, p);
}

DEVICE void start(Held &v, const Op &op, const Head &head, const Job &job) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x);
    const Mask in = job.on & inside(x2, op.w) & (job.column < op.w);
    UNROLL for (int y = 0; y < ROWS; ++y) {
        const int y2 = met_row(y, job.ey * op.scale_y, op.h, job.wrap_y);
        v.k[y] = product(job, head, job.column + y * op.w, x2 + y2 * op.w, in & Mask(y < op.h && within(y2, op.h)));
#if NTK
        v.t[y] = REAL(0);
#endif
    }
}

enum Form { plain, general, of_erf };

// Of displacement 0: positions where 1 - |c| < 1e-3.
DEVICE void count_close(const Held &v, const Op &op, const Job &job, Mask in, Index x2, Counts &counts) {
    const REAL *of_x = job.spread_x + op.place, *of_y = job.spread_y + op.place;
    for (int y = 0; y < ROWS; ++y) {
        const Mask valid = in & Mask(y < op.h);
        const Lanes s = load(of_x, job.column + y * op.w, valid) * load(of_y, x2 + y * op.w, valid);
        counts.close = counts.close + close_to(at_row(v.k, y), s, valid);
    }
}

template <Form form>
DEVICE void activate_rows(Held &v, const Op &op, const double *p, const Head &head, const Job &job, Counts &counts) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x);
    const Mask in = job.on & inside(x2, op.w) & (job.column < op.w);
    const Mask zero = in & (job.ex * op.scale_x == 0);
    const bool row_zero = job.ey * op.scale_y == 0;
#if SINGLE
    if (row_zero && form != of_erf) count_close(v, op, job, zero, x2, counts);
#endif
    const Mask same = zero & Mask(row_zero && head.same != 0);
    const REAL *of_x = job.spread_x + op.place, *of_y = job.spread_y + op.place;
    UNROLL for (int first = 0; first < ROWS; first += 4) {
        if (first >= op.h) break;
        UNROLL for (int y = first; y < first + 4; ++y) {  // no branch among them: the compiler interleaves the rows
            const int y2 = met_row(y, job.ey * op.scale_y, op.h, job.wrap_y);
            const Mask valid = in & Mask(y < op.h && within(y2, op.h));
            const Lanes at_x = load(of_x, job.column + y * op.w, valid), at_y = load(of_y, x2 + y2 * op.w, valid);
#if NTK
            Lanes t = v.t[y];
#else
            Lanes t = REAL(0);
#endif
            if (form == of_erf)
                erf_step(v.k[y], t, at_x, at_y, valid, counts);
            else
                relu_step(v.k[y], t, at_x, at_y, p, form == general, valid, same, counts);
#if NTK
            v.t[y] = t;
#endif
        }
    }
}

DEVICE void activate(Held &v, const Op &op, const double *p, const Head &head, const Job &job, Counts &counts) {
    if (op.kind == erf_kind)
        activate_rows<of_erf>(v, op, p, head, job, counts);
    else if (head.masked || p[1] != 0 || p[2] != 0)
        activate_rows<general>(v, op, p, head, job, counts);
    else
        activate_rows<plain>(v, op, p, head, job, counts);
}

// Places in memory: rows of 32, K and then T.
DEVICE void keep_in(const Held &v, REAL *to) {
    UNROLL for (int y = 0; y < ROWS; ++y) {
        store(to + y * 32, lane_number(), v.k[y], Mask(true));
#if NTK
        store(to + (ROWS + y) * 32, lane_number(), v.t[y], Mask(true));
#endif
    }
}
DEVICE void take_from(Held &v, const REAL *from) {
    UNROLL for (int y = 0; y < ROWS; ++y) {
        v.k[y] = load(from + y * 32, lane_number(), Mask(true));
#if NTK
        v.t[y] = load(from + (ROWS + y) * 32, lane_number(), Mask(true));
#endif
    }
}

// K = p0 K + p1 M, T = p0 T + p2 K + p1 T_M + p3 M, with M in memory
DEVICE void sum_with(Held &v, const Op &, const REAL *from, const double *p) {
    const REAL p0 = REAL(p[0]), p1 = REAL(p[1]);
    UNROLL for (int y = 0; y < ROWS; ++y) {
        const Lanes m = load(from + y * 32, lane_number(), Mask(true));
#if NTK
        const Lanes t = load(from + (ROWS + y) * 32, lane_number(), Mask(true));
        v.t[y] = p0 * v.t[y] + REAL(p[2]) * v.k[y] + p1 * t + REAL(p[3]) * m;
#endif
        v.k[y] = p0 * v.k[y] + p1 * m;
    }
}

DEVICE void finish(const Held &v, const Op &op, const Job &job, Wide &k, Wide &t) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x);
    const Mask in = job.on & inside(x2, op.w) & (job.column < op.w);
    Lanes sum_k = REAL(0), sum_t = REAL(0);
    UNROLL for (int y = 0; y < ROWS; ++y) {
        const int y2 = met_row(y, job.ey * op.scale_y, op.h, job.wrap_y);
        const Mask valid = in & Mask(y < op.h && within(y2, op.h));
        sum_k = sum_k + select(valid, v.k[y], REAL(0));
#if NTK
        sum_t = sum_t + select(valid, v.t[y], REAL(0));
#endif
    }
    k = k + widen(sum_k), t = t + widen(sum_t);
}

DEVICE void open(Held &, const Head &, REAL *) {}
DEVICE REAL *place(const Head &head, const Job &job, int number) { return job.memory + Int(number) * head.dual; }
