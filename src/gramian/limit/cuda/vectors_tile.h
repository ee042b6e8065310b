// 1 - |cosine| of a pair from the distance of the normalized inputs, or of one and minus the other (ry below zero), in
// double; all lanes share the work.
DEVICE double by_distance(const REAL *x, const REAL *y, Int features, double rx, double ry) {
    if (rx == 0 || ry == 0) return 1;
    Wide part = 0.0;
    for (Int k = 0; k < features; k += 32) {
        const Index at = lane_number();
        const Mask on = at < int(features - k < 32 ? features - k : 32);
        const Wide d = widen(load(x + k, at, on)) * rx - widen(load(y + k, at, on)) * ry;
        part = part + d * d;
    }
    return 0.5 * total(part);
}

// A tile (rows, cols); a warp takes 32 columns of a row. With `gaps` the products are 1 - |cosine|,
// below zero where the cosine is. `diagonal`: rows and
// columns are the same inputs, and only columns from the row's own block of 32 on are computed. Strides in numbers.
KERNEL vectors(const REAL *products, Int gaps, Int rows, Int cols, const REAL *row_factors, Int row_stride,
               const REAL *col_factors, Int col_stride, Int scale, REAL *nngp, REAL *ntk, Int out_stride, Int diagonal,
               const REAL *x, const REAL *y, Int features, const double *x_inverse, const double *y_inverse,
               double near) {
    const Int blocks = (cols + 31) / 32;
    for (Int task = warp_number(); task < rows * blocks; task += warp_count()) {
        const Int row = task / blocks, col = task % blocks * 32;
        if (diagonal && col + 32 <= row) continue;
        const Index at = lane_number();
        const Mask on = at < int(cols - col < 32 ? cols - col : 32);
        const Factors f{row_factors + row, col_factors + col, row_stride, col_stride, at, on};
        const Lanes product = load(products + row * cols + col, at, on);
        const Mask back = product < REAL(0);
        const Lanes left = maximum(REAL(1) - absolute(product), Lanes(REAL(0)));
        Lanes u = gaps ? product : select(back, below_zero(left), left);
        const unsigned opposite = votes(on & back);
        for (unsigned near_ones = votes(on & (absolute(u) < REAL(near))); near_ones != 0; near_ones &= near_ones - 1) {
            int lane = 0;
            while (!(near_ones >> lane & 1)) ++lane;
            const Int j = col + lane;
            const double sign = opposite >> lane & 1 ? -1 : 1;
            const double gap =
                by_distance(x + row * features, y + j * features, features, x_inverse[row], sign * y_inverse[j]);
            const Lanes found = REAL(gap);
            u = select(at == lane, sign < 0 ? below_zero(found) : found, u);
        }
        const Value made = network(f, Value{u, Lanes(REAL(0))});
        const Lanes s = of_row(f, int(scale)) * of_col(f, int(scale));
        store(nngp + row * out_stride + col, at, s * cosine_of(made.u), on);
#if NTK
        store(ntk + row * out_stride + col, at, s * made.t, on);
#endif
    }
}
