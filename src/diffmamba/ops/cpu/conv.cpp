// The causal convolution by itself: x and y (batch, length, channels), taps (width, channels), past (batch, width - 1,
// channels). Rows of x may be parts of longer rows.
#include "conv.h"

#include <algorithm>

struct ConvSizes {
    int64_t batch, length, channels, width, x_batch_step, x_step, threads;
};

constexpr int64_t POSITIONS = 32;  // computed together
constexpr int64_t CHANNELS = 64;   // of a task of the backward pass

template <class T, class Out>
static void forward(const ConvSizes& s, const T* x, const T* past, const float* taps, const float* bias, Out* y) {
    const int64_t blocks = (s.length + POSITIONS - 1) / POSITIONS;
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t task = 0; task < s.batch * blocks; task++) {
        const int64_t b = task / blocks, first = task % blocks * POSITIONS;
        const Inputs<const T> inputs{x + b * s.x_batch_step, s.x_step,
                                     past ? past + b * (s.width - 1) * s.channels : nullptr, s.channels};
        convolve<false>(inputs, {taps, bias, s.channels, s.width, s.channels}, first,
                        std::min(POSITIONS, s.length - first), y + (b * s.length + first) * s.channels, s.channels,
                        nullptr, 0);
    }
}

// dx is contiguous; `total`: the gradients of taps and bias.
template <class T, class Out>
static void backward(const ConvSizes& s, const Out* dy, const T* x, const T* past, const float* taps, const float* bias,
                     T* dx, T* dpast, float* total) {
    const int64_t blocks = (s.channels + CHANNELS - 1) / CHANNELS, size = (s.width + 1) * s.channels;
    Buffer sums(s.batch * size);
#pragma omp parallel num_threads(s.threads)
    {
        Buffer y(POSITIONS * CHANNELS), slope(POSITIONS * CHANNELS), later(s.width * CHANNELS);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s.batch * blocks; task++) {
            const int64_t b = task / blocks, c = task % blocks * CHANNELS, count = std::min(CHANNELS, s.channels - c);
            const int64_t of_past = b * (s.width - 1) * s.channels + c;
            const Inputs<const T> inputs{x + b * s.x_batch_step + c, s.x_step, past ? past + of_past : nullptr,
                                         s.channels};
            const Inputs<T> gradients{dx + b * s.length * s.channels + c, s.channels, dpast ? dpast + of_past : nullptr,
                                      s.channels};
            const Filter filter{taps + c, bias + c, s.channels, s.width, count};
            float* own = sums + b * size;
            std::memset(later, 0, s.width * CHANNELS * sizeof(float));
            for (int64_t first = (s.length - 1) / POSITIONS * POSITIONS; first >= 0; first -= POSITIONS) {
                const int64_t n = std::min(POSITIONS, s.length - first);
                convolve<true>(inputs, filter, first, n, (float*)y, CHANNELS, slope, CHANNELS);
                convolve_back(inputs, filter, first, n, dy + (b * s.length + first) * s.channels + c, s.channels, slope,
                              CHANNELS, later, CHANNELS, gradients,
                              {own + c, own + s.width * s.channels + c, s.channels});
            }
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < size; i++) {
            total[i] = 0;
            for (int64_t b = 0; b < s.batch; b++) total[i] += sums[b * size + i];
        }
    }
}

#define EXPORT(NAME, T, OUT)                                                                                       \
    extern "C" void diffmamba_conv_forward##NAME(const ConvSizes* s, const T* x, const T* past, const float* taps, \
                                                 const float* bias, OUT* y) {                                      \
        forward(*s, x, past, taps, bias, y);                                                                       \
    }                                                                                                              \
    extern "C" void diffmamba_conv_backward##NAME(const ConvSizes* s, const OUT* dy, const T* x, const T* past,    \
                                                  const float* taps, const float* bias, T* dx, T* dpast,           \
                                                  float* total) {                                                  \
        backward(*s, dy, x, past, taps, bias, dx, dpast, total);                                                   \
    }
EXPORT(, float, float)
EXPORT(_bfloat16, bfloat16, bfloat16)
EXPORT(_bfloat16_to_float, bfloat16, float)
