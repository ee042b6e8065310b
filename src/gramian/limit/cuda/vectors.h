// All layers of a network on vectors, applied to a tile of cosines: see native/src/vector_tile.h for what is carried
// (u = 1 - K / s, folded as native/src/vector_values.h says, and T = Theta / s) and gramian/limit/vector_inputs.py for the formulas. Python writes the function `network`
// between this file and vectors_tile.h: one call of what is here for each layer.

struct Value {
    Lanes u, t;
};

// Factors of one row times factors of 32 columns.
struct Factors {
    const REAL *rows, *cols;  // (factor, row) from this row on, (factor, column)
    Int row_stride, col_stride;
    Index at;
    Mask on;
};
DEVICE REAL of_row(const Factors &f, int k) { return f.rows[k * f.row_stride]; }
DEVICE Lanes of_col(const Factors &f, int k) { return load(f.cols + k * f.col_stride, f.at, f.on); }

DEVICE Lanes clipped(Lanes u) {
    u = select(u < REAL(0), REAL(0), u);
    return select(u > REAL(2), REAL(2), u);
}

// u is 1 - c where the cosine c is 0 or more, and -(1 + c) below, with the least number for opposite values.
#define LEAST (sizeof(REAL) == 4 ? REAL(1e-36) : REAL(1e-300))
DEVICE Lanes below_zero(Lanes v) { return REAL(0) - maximum(v, Lanes(LEAST)); }
DEVICE Lanes folded(Lanes u, Lanes v) { return select(u > REAL(1), below_zero(v), maximum(u, Lanes(REAL(0)))); }
DEVICE Lanes folded(Lanes u) { return folded(u, REAL(2) - u); }
DEVICE Lanes cosine_of(Lanes x) { return select(x < REAL(0), REAL(-1), REAL(1)) - x; }
DEVICE Lanes unfolded(Lanes x) { return select(x < REAL(0), REAL(2) + x, x); }
// An odd function's result at the opposite value, from that at the value.
DEVICE Lanes turned(Lanes x) { return select(x < REAL(0), REAL(0) - x, below_zero(x)); }

// t / pi of the acute angle t = arccos(1 - w)
DEVICE Lanes acute(Lanes w) { return root(w) * angle(w) * REAL(1 / 3.14159265358979323846); }

// t / pi of the angle t = arccos(1 - u)
DEVICE Lanes over_pi(Lanes u) {
    const Mask back = u > REAL(1);
    const Lanes p = acute(select(back, REAL(2) - u, u));
    return select(back, REAL(1) - p, p);
}

DEVICE Value affine(Value in, REAL gain) { return Value{in.u, fused(gain, cosine_of(in.u), in.t)}; }

DEVICE Value biased(const Factors &f, int k, Value in, REAL gain) {
    const Lanes rho = of_row(f, k) * of_col(f, k);
    const Lanes y = of_row(f, k + 2) * of_col(f, k + 3) - of_row(f, k + 3) * of_col(f, k + 2);
    const Lanes t = rho * (in.t + gain * cosine_of(in.u)) + of_row(f, k + 1) * of_col(f, k + 1);
    return Value{folded(rho * unfolded(in.u) + REAL(2) * y * y), t};
}

// Cho and Saul's arc-cosine kernels: 1 - K'/s' = u + p0 (h - u) with h = u - (sin t - t cos t) / pi
DEVICE Value slopes(Value in, REAL bend) {
    const Mask back = in.u < REAL(0);
    const Lanes u = unfolded(in.u), w = absolute(in.u), base = select(back, REAL(1), u);
    const Lanes side = root(w) * REAL(1 / 3.14159265358979323846), p = side * angle(w);
    return Value{folded(u + bend * (base - u - side * w * area(w))),
                 in.t * (bend == 1 ? select(back, p, REAL(1) - p) : REAL(1) - bend * select(back, REAL(1) - p, p))};
}

DEVICE Value sum(const Factors &f, int k, Value a, Value b) {
    const Lanes wa = of_row(f, k) * of_col(f, k), wb = of_row(f, k + 1) * of_col(f, k + 1);
    const Lanes off_a = of_row(f, k) - of_col(f, k), off_b = of_row(f, k + 1) - of_col(f, k + 1);
    const Lanes less = (of_row(f, k + 2) - of_col(f, k + 2)) * (of_row(f, k + 3) - of_col(f, k + 3));
    const Lanes more = (of_row(f, k + 2) + of_col(f, k + 2)) * (of_row(f, k + 3) + of_col(f, k + 3));
    const Lanes apart = REAL(0.5) * (off_a * off_a + off_b * off_b);
    const Lanes near = wa * unfolded(a.u) + wb * unfolded(b.u) + apart + less;
    const Lanes far_a = select(a.u < REAL(0), REAL(0) - a.u, REAL(2) - a.u);
    const Lanes far_b = select(b.u < REAL(0), REAL(0) - b.u, REAL(2) - b.u);
    return Value{folded(near, wa * far_a + wb * far_b + apart + more), wa * a.t + wb * b.t};
}

// What rounding makes of equal values is none: a jump would take its root, the next jump the root of that.
DEVICE Lanes apart_at_all(Lanes u) {
    return select(u < (sizeof(REAL) == 4 ? REAL(1e-14) : REAL(1e-31)), REAL(0), u);
}

DEVICE Value jump(Value in, REAL scale) {
    const Lanes p = acute(apart_at_all(absolute(in.u)));
    const Lanes back = folded(scale * (REAL(1) - p), REAL(2) - scale + scale * p);
    return Value{select(in.u < REAL(0), back, scale * p), Lanes(REAL(0))};
}

// 2 / pi arcsin(x) with 1 - x = v = sin sin + cos cos w + 2 y^2, a sum of positive terms; odd: w is 1 - |c|
DEVICE Value erf_layer(const Factors &f, int k, Value in) {
    const Lanes y = of_row(f, k + 2) * of_col(f, k + 3) - of_row(f, k + 3) * of_col(f, k + 2);
    const Lanes near = REAL(2) * y * y + of_row(f, k + 1) * of_col(f, k + 1);
    const Lanes v = clipped(near + of_row(f, k) * of_col(f, k) * absolute(in.u));
    const Lanes slope = divide(of_row(f, k + 5) * of_col(f, k + 5), root(v * (REAL(2) - v)));
    const Lanes made = folded(REAL(1) - (REAL(1) - REAL(2) * over_pi(v)) * (of_row(f, k + 4) * of_col(f, k + 4)));
    return Value{select(in.u < REAL(0), turned(made), made), in.t * slope};
}

// Powers of c = 1 - u: see native/src/vector_series.h, here always by the way that keeps the digits of u.
DEVICE Value series(const Factors &f, int k, Value in, int terms, int form) {
    const bool odd = form == 3 && of_row(f, k + 1) == 0;
    const Lanes u = odd ? absolute(in.u) : unfolded(in.u), c = odd ? REAL(1) - u : cosine_of(in.u);
    const Lanes z = form ? c * c : c, zero = REAL(0);
    const Lanes one = of_row(f, k + 2) * of_col(f, k + 2);
    const Lanes off0 = of_row(f, k + 1) - of_col(f, k + 1), off1 = of_row(f, k + 2) - of_col(f, k + 2);
    Lanes sum = zero, slope = zero, rest = zero, tail = zero, apart = off0 * off0 + off1 * off1;
    ROLLED for (int s = k + 2 + terms; s > k + 2; --s) {
        const Lanes b = of_col(f, s), product = of_row(f, s) * b, off = of_row(f, s) - b;
        apart = fused(off, off, apart);
        rest = fused(rest, z, tail);
        tail = tail + product;
        slope = fused(slope, z, sum);
        sum = fused(sum, z, product);
    }
    const Lanes before = form == 3 ? z : c, powers = REAL(1) + c + (form == 3 ? z : zero);
    const Lanes each = form ? REAL(1) + c : zero + REAL(1);
    const REAL start = form == 3 ? REAL(3) : REAL(2), step = form ? REAL(2) : REAL(1);
    const Lanes made = folded(REAL(0.5) * apart + u * (one + tail * powers + before * c * each * rest));
    return Value{odd ? select(in.u < REAL(0), turned(made), made) : made,
                 in.t * (one + before * (start * sum + step * z * slope))};
}

DEVICE Lanes product_of(const Factors &f, int row, int col, int p) {
    Lanes total = of_row(f, row) * of_col(f, col);
    ROLLED for (int b = 1; b < p; ++b) total = fused(of_row(f, row + b) + Lanes(REAL(0)), of_col(f, col + b), total);
    return total;
}

// Chebyshev series in the angle: see native/src/vector_series.h.
DEVICE Value table(const Factors &f, int k, Value in, int terms, int p, int form, bool odd) {
    const Lanes size = absolute(in.u), one = REAL(1), u = odd ? size : unfolded(in.u);
    const Lanes within = acute(form == 2 ? apart_at_all(size) : size);
    const Lanes at = odd ? within : select(in.u < REAL(0), one - within, within);
    const Lanes lead = form == 0 ? u : form == 1 ? at * at : at;
    const Lanes x = form == 0 ? one - u : REAL(2) * at - one;
    Lanes g = REAL(0), above = g, d = g, above_d = g;
    const int series = k + 2 + 2 * p;
    ROLLED for (int r = terms - 1; r >= 0; --r) {
        const Lanes y = r ? REAL(2) * x : x;
        const Lanes now = y * g - above + product_of(f, series + r * p, k + 2, p);
        const Lanes now_d = y * d - above_d + product_of(f, series + (terms + r) * p, k + 2, p);
        above = g, g = now, above_d = d, d = now_d;
    }
    const Lanes off = of_row(f, k) - of_col(f, k), e = of_col(f, k + 1) + Lanes(REAL(0));
    const Lanes apart = p == 1 ? Lanes(REAL(0)) : off * off * product_of(f, k + 2 + p, k + 2, p);
    const Lanes made = folded(apart + e * lead * g);
    return Value{odd ? select(in.u < REAL(0), turned(made), made) : made, in.t * (e * d)};
}
