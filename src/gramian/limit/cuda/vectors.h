// All layers of a network on vectors, applied to a tile of cosines: see native/src/vector_tile.h for what is carried
// (u = 1 - K / s and T = Theta / s) and gramian/limit/factors.py for the formulas. Python writes the function `network`
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

// t / pi of the angle t = arccos(1 - u)
DEVICE Lanes over_pi(Lanes u) {
    const Mask back = u > REAL(1);
    const Lanes w = select(back, REAL(2) - u, u), p = root(w) * angle(w) * REAL(1 / 3.14159265358979323846);
    return select(back, REAL(1) - p, p);
}

DEVICE Value affine(Value in, REAL gain) { return Value{in.u, fused(gain, REAL(1) - in.u, in.t)}; }

DEVICE Value biased(const Factors &f, int k, Value in, REAL gain) {
    const Lanes rho = of_row(f, k) * of_col(f, k);
    const Lanes y = of_row(f, k + 2) * of_col(f, k + 3) - of_row(f, k + 3) * of_col(f, k + 2);
    const Lanes t = rho * (in.t + gain * (REAL(1) - in.u)) + of_row(f, k + 1) * of_col(f, k + 1);
    return Value{rho * in.u + REAL(2) * y * y, t};
}

// Cho and Saul's arc-cosine kernels: 1 - K'/s' = u + p0 (h - u) with h = u - (sin t - t cos t) / pi
DEVICE Value slopes(Value in, REAL bend) {
    const Lanes u = clipped(in.u);
    const Mask back = u > REAL(1);
    const Lanes w = select(back, REAL(2) - u, u), base = select(back, REAL(1), u);
    const Lanes side = root(w) * REAL(1 / 3.14159265358979323846), p = side * angle(w);
    return Value{u + bend * (base - u - side * w * area(w)),
                 in.t * (REAL(1) - bend * select(back, REAL(1) - p, p))};
}

DEVICE Value sum(const Factors &f, int k, Value a, Value b) {
    const Lanes wa = of_row(f, k) * of_col(f, k), wb = of_row(f, k + 1) * of_col(f, k + 1);
    const Lanes y = of_row(f, k + 2) * of_col(f, k + 3) - of_row(f, k + 3) * of_col(f, k + 2);
    return Value{wa * a.u + wb * b.u + REAL(2) * y * y, wa * a.t + wb * b.t};
}

DEVICE Value jump(Value in, REAL scale) { return Value{scale * over_pi(clipped(in.u)), Lanes(REAL(0))}; }

// 2 / pi arcsin(x) with 1 - x = v = sin sin + cos cos u + 2 y^2, a sum of positive terms
DEVICE Value erf_layer(const Factors &f, int k, Value in) {
    const Lanes y = of_row(f, k + 2) * of_col(f, k + 3) - of_row(f, k + 3) * of_col(f, k + 2);
    const Lanes near = REAL(2) * y * y + of_row(f, k + 1) * of_col(f, k + 1);
    const Lanes v = clipped(near + of_row(f, k) * of_col(f, k) * in.u);
    const Lanes slope = divide(of_row(f, k + 5) * of_col(f, k + 5), root(v * (REAL(2) - v)));
    return Value{REAL(1) - (REAL(1) - REAL(2) * over_pi(v)) * (of_row(f, k + 4) * of_col(f, k + 4)), in.t * slope};
}

DEVICE Value series(const Factors &f, int k, Value in, int terms) {
    Lanes power = REAL(1), value = REAL(0), slope = REAL(0);
    const Lanes c = REAL(1) - in.u;
    for (int s = 0; s < terms; ++s) {
        value = value + of_row(f, k + s) * of_col(f, k + s) * power;
        slope = slope + of_row(f, k + terms + s) * of_col(f, k + terms + s) * power;
        power = power * c;
    }
    return Value{REAL(1) - value, in.t * slope};
}
