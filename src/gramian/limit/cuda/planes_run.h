// The kernel: each warp takes pairs of images, and of each the planes of one row of displacements.

DEVICE void run(Held &v, const Head &head, const Op *ops, const double *reals, const Job &job, Counts &counts) {
    for (int number = 0; number < head.ops; ++number) {
        const Op op = ops[number];
        const double *p = reals + 6 * number;
        switch (op.kind) {
            case input: start(v, op, head, job); break;
            case affine: convolved(v, op, p, job); break;
            case relu:
            case erf_kind: activate(v, op, p, head, job, counts); break;
            case add: sum_with(v, op, place(head, job, op.place), p); break;
#if ROWS
            case scale: linear(v, p); break;
#else
            case scale: linear_in(v, op, p, job); break;
#endif
            case keep: keep_in(v, place(head, job, op.place)); break;
            case take: take_from(v, place(head, job, op.place)); break;
            default: break;
        }
    }
}

// `ints`: a Head, then its ops; x (images, channels, positions), spreads (images, variances); pairs (n, 2) of images;
// out (n, shifts_y, 4): sums over planes and positions of K and of T, and both counts.
KERNEL planes(const int *ints, const double *reals, const REAL *x, const REAL *y, const REAL *spread_x,
              const REAL *spread_y, const int *pairs, Int n, REAL *memory, double *out) {
    const Head head = *reinterpret_cast<const Head *>(ints);
    const Op *ops = reinterpret_cast<const Op *>(ints + 16);
    const Int pixels = Int(head.channels) * head.positions;
    Job job;
    job.wrap_y = head.wrap_y, job.wrap_x = head.wrap_x;
    job.memory = memory + warp_number() * head.size;
    const Index part = lane_number() / Index(head.width);
    job.column = lane_number() - part * head.width;
    for (Int task = warp_number(); task < n * head.shifts_y; task += warp_count()) {
        const Int pair = task / head.shifts_y;
        const Int i = pairs[2 * pair], j = pairs[2 * pair + 1];
        job.x = x + i * pixels, job.y = y + j * pixels;
        job.spread_x = spread_x + i * head.variances, job.spread_y = spread_y + j * head.variances;
        job.ey = head.first_y + int(task % head.shifts_y);
        Counts counts{REAL(0), REAL(0)};
        Wide k = 0.0, t = 0.0;
        for (int first = 0; first < head.shifts_x; first += head.together) {
            job.ex = part + (head.first_x + first);
            job.on = (part < head.together) & (part + first < head.shifts_x);
            Held v;
            open(v, head, job.memory);
            run(v, head, ops, reals, job, counts);
            finish(v, ops[head.ops - 1], job, k, t);
        }
        const double sums[4] = {total(k), total(t), total(widen(counts.near)), total(widen(counts.close))};
        for (int q = 0; q < 4; ++q) store(out + 4 * task, Index(q), Wide(sums[q]), lane_number() == 0);
    }
}
