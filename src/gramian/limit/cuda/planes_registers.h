// A value in registers: a lane for each column, images of a warp's width side by side.

struct Held {
    Lanes k[ROWS];
#if NTK
    Lanes t[ROWS];
#endif
};

DEVICE Lanes at_row(const Lanes (&v)[ROWS], int row) { return row >= 0 && row < ROWS ? v[row] : Lanes(REAL(0)); }

// Sums over `TAPS` (1, or 3 from -1 to 1) rows, then columns, one of S, in place.
template <int TAPS, int S>
DEVICE void window(Lanes (&v)[ROWS], const Op &op, const Job &job) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x);
    const Index from = lane_number() - job.column + job.column * S, other = x2 * S;
    const Index x = job.column * S;
    Mask in[TAPS];
    for (int i = 0; i < TAPS; ++i) {
        const int d = TAPS == 1 ? 0 : i - 1;
        in[i] = inside(x + d, op.w_in) & inside(other + d, op.w_in) & (job.column < op.w);
    }
    Lanes last = REAL(0);  // the row above, before it was overwritten
    UNROLL for (int p = 0; p * S < ROWS; ++p) {
        const Lanes here = v[p * S];
        Lanes sum = here;
        if (TAPS == 3) {
            const int q = S * met_row(p, job.ey * op.scale_y, op.h, job.wrap_y);
            const Lanes above = S == 1 ? last : at_row(v, S * p - 1), below = at_row(v, S * p + 1);
            const Lanes zero = REAL(0);
            sum = within(q, op.h_in) ? here : zero;
            sum = sum + (within(q - 1, op.h_in) && p > 0 ? above : zero);
            sum = sum + (within(q + 1, op.h_in) && S * p + 1 < op.h_in ? below : zero);
        }
        last = here;
        Lanes all = REAL(0);
        UNROLL for (int i = 0; i < TAPS; ++i) {
            const int d = TAPS == 1 ? 0 : i - 1;
            const Lanes moved = S == 1 && d == 0 ? sum : shuffle(sum, from + d);
            all = all + select(in[i], moved, REAL(0));
        }
        v[p] = all;
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

DEVICE void activate(Held &v, const Op &op, const double *p, const Head &head, const Job &job, Counts &counts) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x);
    const Mask in = job.on & inside(x2, op.w) & (job.column < op.w);
    const Mask zero = (job.ex * op.scale_x == 0) & Mask(job.ey * op.scale_y == 0);
    const Mask same = zero & Mask(head.same != 0);
    const int general = head.masked || p[1] != 0 || p[2] != 0;
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
            if (op.kind == relu)
                relu_step(v.k[y], t, at_x, at_y, p, general, valid, valid & zero, same, counts);
            else
                erf_step(v.k[y], t, at_x, at_y, valid, counts);
#if NTK
            v.t[y] = t;
#endif
        }
    }
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
