// The causal depthwise convolution with silu, of some channels of one sequence, and its gradient:
//
//     v[t] = bias + Σ_k taps[k] · x[t - width + 1 + k]        y[t] = v[t] · sigmoid(v[t])
#pragma once
#include "tiles.h"

constexpr int MAX_WIDTH = 16;

template <class T> struct Inputs {
    T* rows;        // at position 0
    int64_t step;   // between positions
    T* past;        // the `width - 1` inputs before position 0, oldest first; null: zeros
    int64_t past_step;

    T* at(int64_t position, int64_t width) const {
        if (position >= 0) return rows + position * step;
        return past ? past + (position + width - 1) * past_step : nullptr;
    }
};

struct Filter {
    const float *taps, *bias;
    int64_t step;  // between taps
    int64_t width, channels;
};

struct FilterGradient {  // sums over positions
    float *taps, *bias;
    int64_t step;
};

// Calls f<width>() with the usual widths as constants, and with 0 for all others.
template <class F> INLINE void by_width(int64_t width, F f) {
    if (width == 4) return f.template operator()<4>();
    if (width == 3) return f.template operator()<3>();
    if (width == 2) return f.template operator()<2>();
    f.template operator()<0>();
}

// y at `count` positions from `first` on, and dy/dv unless `slope` is null. Rows of y that are PADDED end with zeros.
//
// One vector of channels after the other goes through all positions, with its taps and its last inputs in registers.
template <bool PADDED, class T, class Out>
void convolve(Inputs<const T> x, Filter filter, int64_t first, int64_t count, Out* y, int64_t y_step, float* slope,
              int64_t slope_step) {
    by_width(filter.width, [&]<int WIDTH>() {
        const int64_t width = WIDTH ? WIDTH : filter.width;
        by_vectors(filter.channels, [&](int64_t c, auto left) {
            auto input = [&](int64_t position) {
                const T* from = x.at(position, width);
                return from ? load(from + c, left) : Vector{};
            };
            const Vector bias = load(filter.bias + c, left);
            Vector taps[WIDTH ? WIDTH : MAX_WIDTH], in[WIDTH ? WIDTH : MAX_WIDTH];  // in[k] meets taps[k]
#pragma GCC unroll 4
            for (int k = 0; k < width; k++) {
                taps[k] = load(filter.taps + k * filter.step + c, left);
                if (k > 0) in[k] = input(first - width + k);
            }
            for (int64_t q = 0; q < count; q++) {
#pragma GCC unroll 4
                for (int k = 0; k + 1 < width; k++) in[k] = in[k + 1];
                in[width - 1] = load(x.rows + (first + q) * x.step + c, left);
                Vector v = bias;
#pragma GCC unroll 4
                for (int k = 0; k < width; k++) v += taps[k] * in[k];
                const Vector s = sigmoid(v), value = v * s;
                PADDED ? store(y + q * y_step + c, value) : store(y + q * y_step + c, value, left);
                if (slope) store(slope + q * slope_step + c, silu_slope(s, value));
            }
        });
    });
}

// The gradient at the same positions, from the last to the first: dx[t] = Σ_k taps[width - 1 - k] · dv[t + k].
//
// `later` holds dv at the `width - 1` positions after these, and then at the first of these. With the first position of
// the sequence, the gradient of the inputs before it follows.
template <class T, class Out>
void convolve_back(Inputs<const T> x, Filter filter, int64_t first, int64_t count, const Out* dy, int64_t dy_step,
                   const float* slope, int64_t slope_step, float* later, int64_t later_step, Inputs<T> dx,
                   FilterGradient sums) {
    by_width(filter.width, [&]<int WIDTH>() {
        const int64_t width = WIDTH ? WIDTH : filter.width;
        const int64_t last = first == 0 && dx.past ? -(width - 1) : 0;
        by_vectors(filter.channels, [&](int64_t c, auto left) {
            constexpr int SIZE = WIDTH ? WIDTH : MAX_WIDTH;
            Vector taps[SIZE], dtaps[SIZE], dv[SIZE];  // dv[k] is that at t + k
            Vector dbias = load(sums.bias + c, left);
#pragma GCC unroll 4
            for (int k = 0; k < width; k++) {
                taps[k] = load(filter.taps + k * filter.step + c, left);
                dtaps[k] = load(sums.taps + k * sums.step + c, left);
                if (k > 0) dv[k - 1] = load(later + (k - 1) * later_step + c);
            }
            for (int64_t q = count - 1; q >= last; q--) {
#pragma GCC unroll 4
                for (int k = width - 1; k > 0; k--) dv[k] = dv[k - 1];
                dv[0] = q >= 0 ? load(dy + q * dy_step + c, left) * load(slope + q * slope_step + c) : Vector{};
                const T* from = x.at(first + q, width);
                const Vector in = from ? load(from + c, left) : Vector{};
                Vector d{};
#pragma GCC unroll 4
                for (int k = 0; k < width; k++) {
                    d += taps[width - 1 - k] * dv[k];
                    dtaps[width - 1 - k] += in * dv[k];
                }
                dbias += dv[0];
                store(dx.at(first + q, width) + c, d, left);
            }
#pragma GCC unroll 4
            for (int k = 0; k < width; k++) {
                store(sums.taps + k * sums.step + c, dtaps[k], left);
                if (k > 0) store(later + (k - 1) * later_step + c, dv[k - 1]);
            }
            store(sums.bias + c, dbias, left);
        });
    });
}
