// The difference of two branches and the outer norm, as decoding takes them, on one thread:
//
//     y = W1 u1 + s · W2 u2, or without weight y = u1 + s · u2;     then y / sqrt(mean(y²) + ε) · gain · scale
//
// `u` is (rows, 2 · inner), `weight` [W1, W2] (outputs, 2 · inner) or null, with outputs = inner. `gain` may be null: then
// only the scale is multiplied.
#include <cmath>

#include "step.h"

extern "C" void difference_step(const float* u, const float* weight, const float* gain, float* y, int64_t rows, int64_t inner,
                                int64_t outputs, double s, double scale, double epsilon) {
    using namespace step;
    const float second = s;
    for (int64_t row = 0; row < rows; row++, u += 2 * inner, y += outputs) {
        for (int64_t o = 0; o < outputs; o++) {
            const float* W1 = weight + o * 2 * inner;
            y[o] = weight ? dot(W1, u, inner) + second * dot(W1 + inner, u + inner, inner) : u[o] + second * u[inner + o];
        }
        const float factor = gain ? scale / std::sqrt(dot(y, y, outputs) / outputs + epsilon) : scale;
        for (int64_t o = 0; o < outputs; o++) y[o] *= gain ? factor * gain[o] : factor;
    }
}
