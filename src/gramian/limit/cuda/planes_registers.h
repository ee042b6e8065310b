// A value in registers: a lane for each column, images of a warp's width side by side.

struct Held {
    Lanes k[ROWS];
#if NTK
    Lanes t[ROWS];
#endif
};

DEVICE Lanes at_row(const Lanes (&v)[ROWS], int row) { return row >= 0 && row < ROWS ? v[row] : Lanes(REAL(0)); }

// Of each row, as a bit: whether it and the row that it meets lie in the plane, and whether the latter has wrapped.
struct RowBits {
    unsigned valid, wrapped;
};
DEVICE RowBits row_bits(const Op &op, const Job &job) {
    const Index p = lane_number(), far = p + job.ey * op.scale_y, q = met(p, Index(job.ey * op.scale_y), op.h, job.wrap_y);
    return RowBits{votes((p < op.h) & inside(q, op.h)), votes(!(far == q))};
}
DEVICE bool bit(unsigned bits, int number) { return bits >> number & 1; }

// Sums over `TAPS` (1, or 3 from -1 to 1) rows, then columns, one of S, in place. What lies outside counts with weight 0;
// the middle of a window lies inside wherever the result does, and elsewhere nobody reads the result.
template <int TAPS, int S>
DEVICE void window(Held &v, const Op &op, const Job &job) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x) * S, x = job.column * S;
    const Index from = lane_number() - job.column + x, p0 = lane_number() * S;
    const Index q0 = met(lane_number(), Index(job.ey * op.scale_y), op.h, job.wrap_y) * S;
    const Lanes left = select(inside(x - 1, op.w_in) & inside(x2 - 1, op.w_in), REAL(1), REAL(0));
    const Lanes right = select(inside(x + 1, op.w_in) & inside(x2 + 1, op.w_in), REAL(1), REAL(0));
    const unsigned up = votes(inside(p0 - 1, op.h_in) & inside(q0 - 1, op.h_in));
    const unsigned down = votes(inside(p0 + 1, op.h_in) & inside(q0 + 1, op.h_in));
    const auto sum_at = [&](Lanes(&k)[ROWS], Lanes &last, int p, REAL above, REAL below) {
        const Lanes here = k[p * S];  // `last` is the row above, before it was overwritten
        Lanes sum = here;
        if (TAPS == 3) {
            sum = fused(S == 1 ? last : at_row(k, S * p - 1), above, sum);
            sum = fused(at_row(k, S * p + 1), below, sum);
        }
        last = here;
        k[p] = S == 1 ? sum : shuffle(sum, from);
        if (TAPS == 3) k[p] = fused(shuffle(sum, from - 1), left, fused(shuffle(sum, from + 1), right, k[p]));
    };
    Lanes last = REAL(0), last_t = REAL(0);
    UNROLL for (int p = 0; p * S < ROWS; ++p) {
        const REAL above = bit(up, p) ? REAL(1) : REAL(0), below = bit(down, p) ? REAL(1) : REAL(0);
        sum_at(v.k, last, p, above, below);
#if NTK
        sum_at(v.t, last_t, p, above, below);
#endif
    }
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
        window<3, 1>(v, op, job);
    else if (op.window_y == 3)
        window<3, 2>(v, op, job);
    else
        window<1, 2>(v, op, job);
    linear(v, p);
}

DEVICE void start(Held &v, const Op &op, const Head &head, const Job &job) {
    const Index x2 = met(job.column, job.ex * op.scale_x, op.w, job.wrap_x);
    const Mask in = job.on & inside(x2, op.w) & (job.column < op.w);
    const RowBits rows = row_bits(op, job);
    const int around = op.h * op.w;
    UNROLL for (int y = 0; y < ROWS; ++y) {
        v.k[y] = REAL(0);
#if NTK
        v.t[y] = REAL(0);
#endif
    }
    ROLLED for (int c = 0; c < head.channels; ++c) {
        const REAL *x = job.x + Int(c) * head.positions, *y = job.y + Int(c) * head.positions;
        Index at = job.column, other = x2 + job.ey * op.scale_y * op.w;
        UNROLL for (int row = 0; row < ROWS; ++row) {
            const Mask valid = in & Mask(bit(rows.valid, row));
            const Index met_at = other - (bit(rows.wrapped, row) ? around : 0);
            v.k[row] = fused(load(x, at, valid), load(y, met_at, valid), v.k[row]);
            at = at + op.w, other = other + op.w;
        }
    }
    UNROLL for (int y = 0; y < ROWS; ++y) v.k[y] = v.k[y] * REAL(1.0 / head.channels);
}

enum Form { plain, general, of_erf };

// Of displacement 0: positions where 1 - |c| < 1e-3.
DEVICE void count_close(const Held &v, const Op &op, const Job &job, Mask in, Index x2, Counts &counts) {
    const REAL *of_x = job.spread_x + op.place, *of_y = job.spread_y + op.place;
    UNROLL for (int y = 0; y < ROWS; ++y) {
        const Mask valid = in & Mask(y < op.h);
        const Lanes s = load(of_x, job.column + y * op.w, valid) * load(of_y, x2 + y * op.w, valid);
        counts.close = counts.close + close_to(v.k[y], s, valid);
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
    const RowBits rows = row_bits(op, job);
    const int around = op.h * op.w;
    Index at = job.column, other = x2 + job.ey * op.scale_y * op.w;
    UNROLL for (int first = 0; first < ROWS; first += 4) {
        if (first >= op.h) break;
        UNROLL for (int y = first; y < first + 4; ++y) {  // no branch among them: the compiler interleaves the rows
            const Mask valid = in & Mask(bit(rows.valid, y));
            const Index met_at = other - (bit(rows.wrapped, y) ? around : 0);
            const Lanes at_x = load(of_x, at, valid), at_y = load(of_y, met_at, valid);
            at = at + op.w, other = other + op.w;
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
    const RowBits rows = row_bits(op, job);
    Lanes sum_k = REAL(0), sum_t = REAL(0);
    UNROLL for (int y = 0; y < ROWS; ++y) {
        const Mask valid = in & Mask(bit(rows.valid, y));
        sum_k = sum_k + select(valid, v.k[y], REAL(0));
#if NTK
        sum_t = sum_t + select(valid, v.t[y], REAL(0));
#endif
    }
    k = k + widen(sum_k), t = t + widen(sum_t);
}

DEVICE void open(Held &, const Head &, REAL *) {}
DEVICE REAL *place(const Head &head, const Job &job, int number) { return job.memory + Int(number) * head.dual; }
