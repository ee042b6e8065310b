// A value in memory: any size, any window. Two buffers take turns; 32 positions at a time, a lane for each.

struct Held {
    REAL *k, *other;  // K and then T, `half` numbers each
    Int half;
};

struct Spot {  // 32 positions of a plane
    Index at, y, x, y2, x2;
    Mask on, valid;
};
DEVICE Spot spot(int first, const Op &op, const Job &job) {
    Spot s;
    s.at = lane_number() + first;
    s.on = s.at < op.h * op.w;
    s.y = s.at / Index(op.w), s.x = s.at - s.y * op.w;
    s.y2 = met(s.y, Index(job.ey * op.scale_y), op.h, job.wrap_y), s.x2 = met(s.x, job.ex * op.scale_x, op.w, job.wrap_x);
    s.valid = s.on & inside(s.y2, op.h) & inside(s.x2, op.w);
    return s;
}

DEVICE void put(const Held &v, const Spot &s, Lanes k, Lanes t) {
    store(v.k, s.at, k, s.on);
#if NTK
    store(v.k + v.half, s.at, t, s.on);
#endif
}
DEVICE Lanes k_at(const Held &v, const Spot &s) { return load(v.k, s.at, s.on); }
DEVICE Lanes t_at(const Held &v, const Spot &s) {
#if NTK
    return load(v.k + v.half, s.at, s.on);
#else
    return Lanes(REAL(0));
#endif
}

DEVICE void convolved(Held &v, const Op &op, const double *p, const Job &job) {
    const REAL *from = v.k;
    v.k = v.other, v.other = const_cast<REAL *>(from);
    for (int first = 0; first < op.h * op.w; first += 32) {
        const Spot s = spot(first, op, job);
        Lanes k = REAL(0), t = REAL(0);
        for (int i = 0; i < op.window_y; ++i) {
            const int dy = i * op.step_y - op.before_y;
            const Index y = s.y * op.stride_y + dy, y2 = s.y2 * op.stride_y + dy;
            const Mask rows = s.on & inside(y, op.h_in) & inside(y2, op.h_in);
            for (int j = 0; j < op.window_x; ++j) {
                const int dx = j * op.step_x - op.before_x;
                const Index x = s.x * op.stride_x + dx, x2 = s.x2 * op.stride_x + dx;
                const Mask in = rows & inside(x, op.w_in) & inside(x2, op.w_in);
                k = k + load(from, y * op.w_in + x, in);
#if NTK
                t = t + load(from + v.half, y * op.w_in + x, in);
#endif
            }
        }
        put(v, s, fused(k, REAL(p[0]), REAL(p[1])), fused(t, REAL(p[0]), fused(k, REAL(p[2]), REAL(p[3]))));
    }
    sync();
}

DEVICE void linear_in(Held &v, const Op &op, const double *p, const Job &job) {
    for (int first = 0; first < op.h * op.w; first += 32) {
        const Spot s = spot(first, op, job);
        const Lanes k = k_at(v, s), t = t_at(v, s);
        put(v, s, fused(k, REAL(p[0]), REAL(p[1])), fused(t, REAL(p[0]), fused(k, REAL(p[2]), REAL(p[3]))));
    }
    sync();
}

DEVICE void start(Held &v, const Op &op, const Head &head, const Job &job) {
    for (int first = 0; first < op.h * op.w; first += 32) {
        const Spot s = spot(first, op, job);
        put(v, s, product(job, head, s.at, s.y2 * op.w + s.x2, s.valid), REAL(0));
    }
    sync();
}

DEVICE void activate(Held &v, const Op &op, const double *p, const Head &head, const Job &job, Counts &counts) {
    const Mask zero = (job.ex * op.scale_x == 0) & Mask(job.ey * op.scale_y == 0);
    const Mask same = zero & Mask(head.same != 0);
    const int general = head.masked || p[1] != 0 || p[2] != 0;
    for (int first = 0; first < op.h * op.w; first += 32) {
        const Spot s = spot(first, op, job);
        const Lanes at_x = load(job.spread_x + op.place, s.at, s.valid);
        const Lanes at_y = load(job.spread_y + op.place, s.y2 * op.w + s.x2, s.valid);
        Lanes k = k_at(v, s), t = t_at(v, s);
        if (op.kind == relu) {
            counts.close = counts.close + close_to(k, at_x * at_y, s.valid & zero);
            relu_step(k, t, at_x, at_y, p, general, s.valid, same, counts);
        } else {
            erf_step(k, t, at_x, at_y, s.valid, counts);
        }
        put(v, s, k, t);
    }
    sync();
}

DEVICE void copy(const REAL *from, REAL *to, Int count) {
    for (Int first = 0; first < count; first += 32) {
        const Mask on = lane_number() < int(count - first < 32 ? count - first : 32);
        store(to + first, lane_number(), load(from + first, lane_number(), on), on);
    }
    sync();
}
DEVICE void keep_in(const Held &v, REAL *to) { copy(v.k, to, (1 + NTK) * v.half); }
DEVICE void take_from(Held &v, const REAL *from) { copy(from, v.k, (1 + NTK) * v.half); }

// K = p0 K + p1 M, T = p0 T + p2 K + p1 T_M + p3 M
DEVICE void sum_with(Held &v, const Op &op, const REAL *from, const double *p) {
    for (int first = 0; first < op.h * op.w; first += 32) {
        const Index at = lane_number() + first;
        const Mask on = at < op.h * op.w;
        const Lanes k = load(v.k, at, on), m = load(from, at, on);
#if NTK
        const Lanes t = load(v.k + v.half, at, on), other = load(from + v.half, at, on);
        store(v.k + v.half, at, REAL(p[0]) * t + REAL(p[2]) * k + REAL(p[1]) * other + REAL(p[3]) * m, on);
#endif
        store(v.k, at, REAL(p[0]) * k + REAL(p[1]) * m, on);
    }
    sync();
}

DEVICE void finish(const Held &v, const Op &op, const Job &job, Wide &k, Wide &t) {
    for (int first = 0; first < op.h * op.w; first += 32) {
        const Spot s = spot(first, op, job);
        k = k + widen(select(s.valid, k_at(v, s), REAL(0)));
        t = t + widen(select(s.valid, t_at(v, s), REAL(0)));
    }
    sync();
}

DEVICE void open(Held &v, const Head &head, REAL *memory) {
    v.half = head.dual / (1 + NTK), v.k = memory, v.other = memory + head.dual;
}
DEVICE REAL *place(const Head &head, const Job &job, int number) { return job.memory + Int(number + 2) * head.dual; }
