// One position of a state-space mixer, as decoding takes it: what Mamba-1 and Mamba-2 share.
//
// A step is a few stages over (row, part) in one parallel region. Between them the numbers lie in float in a scratch
// memory, so bfloat16 occurs only where the caller's tensors are read and written.
#pragma once
#include <algorithm>
#include <memory>

#include "vectors.h"

namespace step {

constexpr int64_t SMALL = 1 << 16;  // numbers in all h below which one thread is faster than the start of a second

struct Tensor {  // (batch, numbers), dense
    void* data;
    int64_t narrow;  // bfloat16 instead of float
};
INLINE Vector get(const Tensor& from, int64_t at, int64_t count) {
    return from.narrow ? load((const bfloat16*)from.data + at, count) : load((const float*)from.data + at, count);
}
INLINE void set(const Tensor& to, int64_t at, Vector v, int64_t count) {
    to.narrow ? store((bfloat16*)to.data + at, v, count) : store((float*)to.data + at, v, count);
}

INLINE float dot(const float* a, const float* b, int64_t size) {  // two sums, since each addition waits for the last
    Vector even{}, odd{};
    int64_t i = 0;
    for (; i + 2 * W <= size; i += 2 * W) {
        even += load(a + i) * load(b + i);
        odd += load(a + i + W) * load(b + i + W);
    }
    if (i + W <= size) even += load(a + i) * load(b + i), i += W;
    float rest = 0;
    for (; i < size; i++) rest += a[i] * b[i];
    return sum(even + odd) + rest;
}

// The convolution of one position: x[c] = silu(bias[c] + Σ_k weight[c, k] · window[k, c]), where the window is the
// state and then the input. `weight` and `bias` have the channels of `parts`, one part after the other; in the input
// each part occurs `sharing` times in a row.
struct Convolution {
    int64_t channels, width;
    std::unique_ptr<float[]> taps, bias;  // (width, channels), (channels)

    Convolution(const float* weight, const float* own_bias, int64_t width, int64_t sharing,
                std::initializer_list<int64_t> parts)
        : channels(0), width(width) {
        for (int64_t part : parts) channels += part * sharing;
        taps.reset(new float[width * channels]);
        bias.reset(new float[channels]);
        int64_t to = 0, from = 0;
        for (int64_t part : parts) {
            for (int64_t copy = 0; copy < sharing; copy++)
                for (int64_t c = from; c < from + part; c++, to++) {
                    bias[to] = own_bias[c];
                    for (int64_t k = 0; k < width; k++) taps[k * channels + to] = weight[c * width + k];
                }
            from += part;
        }
    }
    // `input` has the channels from `at` on; the states are (batch, width - 1, channels)
    void row(int64_t row, const Tensor& input, int64_t at, const Tensor& state, const Tensor& next, float* x) const {
        const int64_t past = width - 1, from = row * past * channels;
        for (int64_t c = 0; c < channels; c += W) {
            const int64_t count = std::min<int64_t>(W, channels - c);
            Vector now = get(input, at + c, count), total = load(&bias[c], count);
            total += now * load(&taps[past * channels + c], count);
            for (int64_t k = 0; k < past; k++) {
                Vector earlier = get(state, from + k * channels + c, count);
                total += earlier * load(&taps[k * channels + c], count);
                if (k > 0) set(next, from + (k - 1) * channels + c, earlier, count);
            }
            if (past > 0) set(next, from + (past - 1) * channels + c, now, count);
            store(x + c, total * sigmoid(total), count);
        }
    }
};

}  // namespace step
