// The difference of two branches and the outer norm, as decoding takes them:
//
//     y = W1 u1 + s · W2 u2, or without weight y = u1 + s · u2;     then y / sqrt(mean(y²) + ε) · gain · scale
//
// `u` is (rows, 2 · inner), `weight` [W1, W2] (outputs, 2 · inner) or null, with outputs = inner. `gain` may be null:
// then only the scale is multiplied.
#include <cmath>

#include "step.h"

extern "C" void difference_step(const float* u, const float* weight, const float* gain, float* y, int64_t rows,
                                int64_t inner, int64_t outputs, int64_t threads, double s, double scale,
                                double epsilon) {
    using step::dot;
#pragma omp parallel num_threads(threads)
    {
        const std::unique_ptr<float[]> both(new float[2 * inner]);  // u1, s · u2
#pragma omp for
        for (int64_t row = 0; row < rows; row++) {
            const float* from = u + row * 2 * inner;
            float* to = y + row * outputs;
            std::copy_n(from, inner, &both[0]);
            for (int64_t i = inner; i < 2 * inner; i++) both[i] = float(s) * from[i];
            for (int64_t o = 0; o < outputs; o++)
                to[o] = weight ? dot(weight + o * 2 * inner, &both[0], 2 * inner) : both[o] + both[inner + o];
            const double factor = gain ? scale / std::sqrt(dot(to, to, outputs) / outputs + epsilon) : scale;
            for (int64_t o = 0; o < outputs; o++) to[o] *= gain ? float(factor) * gain[o] : float(factor);
        }
    }
}
