// The difference of two branches and the outer norm, as decoding takes them, on one thread:
//
//     y = W1 u1 + s · W2 u2, or without weight y = u1 + s · u2;     then y / sqrt(mean(y²) + ε) · gain · scale
//
// `u` is (rows, 2 · inner), `weight` [W1, W2] (outputs, 2 · inner) or null, with outputs = inner. `gain` may be null:
// then only the scale is multiplied.
#include <cmath>

#include "step.h"

extern "C" void difference_step(const float* u, const float* weight, const float* gain, float* y, int64_t rows,
                                int64_t inner, int64_t outputs, double s, double scale, double epsilon) {
    using step::dot;
    const std::unique_ptr<float[]> weighted(new float[2 * inner]);  // u1, s · u2
    for (int64_t row = 0; row < rows; row++, u += 2 * inner, y += outputs) {
        std::copy_n(u, inner, &weighted[0]);
        for (int64_t i = inner; i < 2 * inner; i++) weighted[i] = float(s) * u[i];
        for (int64_t o = 0; o < outputs; o++)
            y[o] = weight ? dot(weight + o * 2 * inner, &weighted[0], 2 * inner) : weighted[o] + weighted[inner + o];
        const double factor = gain ? scale / std::sqrt(dot(y, y, outputs) / outputs + epsilon) : scale;
        for (int64_t o = 0; o < outputs; o++) y[o] *= gain ? float(factor) * gain[o] : float(factor);
    }
}
