// The gated norm of one position of one group, and its gradient. With u = y · silu(z) and n channels:
//
//     r = 1 / sqrt(mean(u²) + ε)      out = w · r · u
//     v = r · (w · dout - u · m) with m = r² · mean(w · dout · u)
//     dy = v · silu(z)                dz = v · y · silu'(z)                dw = Σ r · u · dout
#pragma once
#include "vectors.h"

template <class Y, class Z> struct Gated {  // y lies head by head
    const Y* y;
    int64_t y_step;
    const Z* z;
    int64_t heads, headdim;
    float epsilon;

    template <class F> INLINE void each(F f) const {  // f(channel, numbers left in the head, y, z)
        for (int64_t h = 0; h < heads; h++)
            by_vectors(headdim, [&](int64_t p, auto left) {
                f(h * headdim + p, left, load(y + h * y_step + p, left), load(z + h * headdim + p, left));
            });
    }
    float root(Vector squares) const { return 1 / std::sqrt(sum(squares) / (heads * headdim) + epsilon); }
    float root() const {
        Vector squares{};
        each([&](int64_t, auto, Vector y, Vector z) {
            const Vector u = y * z * sigmoid(z);
            squares += u * u;
        });
        return root(squares);
    }
};

// u: scratch of heads · headdim + W
template <class Y, class Z, class Out>
INLINE void gated_norm(const Gated<Y, Z>& row, const float* weight, float* u, Out* out) {
    Vector squares{};
    row.each([&](int64_t c, auto left, Vector y, Vector z) {
        const Vector gated = y * z * sigmoid(z);
        squares += gated * gated;
        store(u + c, gated, left);
    });
    const float r = row.root(squares);
    const int64_t size = row.heads * row.headdim;
    by_vectors(size, [&](int64_t c, auto left) {
        store(out + c, load(u + c, left) * r * load(weight + c, left), left);
    });
}

struct NormFactors {
    float r, m;
};

template <class Y, class Z, class Out>
INLINE NormFactors norm_factors(const Gated<Y, Z>& row, const float* weight, const Out* dout) {
    Vector squares{}, product{};
    row.each([&](int64_t c, auto left, Vector y, Vector z) {
        const Vector u = y * z * sigmoid(z);
        squares += u * u;
        product += u * load(dout + c, left) * load(weight + c, left);
    });
    const float r = row.root(squares);
    return {r, sum(product) / (row.heads * row.headdim) * r * r};
}

// The gradient of some channels: dy is PADDED with zeros to whole vectors in a tile.
template <bool PADDED, class Y, class Z, class Out, class DY>
INLINE void norm_gradient(NormFactors f, const Y* y, const Z* z, const Out* dout, const float* weight, int64_t count,
                          DY* dy, Z* dz, float* dweight) {
    by_vectors(count, [&](int64_t c, auto left) {
        const Vector yv = load(y + c, left), zv = load(z + c, left), d = load(dout + c, left);
        const Vector s = sigmoid(zv), gate = zv * s, u = yv * gate;
        const Vector v = (d * load(weight + c, left) - u * f.m) * f.r;
        store(dweight + c, load(dweight + c, left) + d * u * f.r, left);
        store(dz + c, v * yv * silu_slope(s, gate), left);
        if constexpr (PADDED)
            store(dy + c, v * gate);
        else
            store(dy + c, v * gate, left);
    });
}
