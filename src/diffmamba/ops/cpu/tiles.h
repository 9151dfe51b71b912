// Small matrix products with all sums in registers, transpositions, and memory for tiles.
//
// A tile is a matrix in a buffer of its own, padded with zeros: its rows are a multiple of W long. So no product has to
// look at borders.
#pragma once
#include <cstdlib>
#include <new>

#include "vectors.h"

class Buffer {  // numbers that start as zeros, aligned to a line of the cache
  public:
    // without zeros: for a large one whose numbers are all written first, by all threads
    explicit Buffer(int64_t count, bool zeros = true) {
        const size_t bytes = round_up(count * sizeof(float), 64) + 64;
        memory = static_cast<float*>(std::aligned_alloc(64, bytes));
        if (!memory) throw std::bad_alloc();
        if (zeros) std::memset(memory, 0, bytes);
    }
    ~Buffer() { std::free(memory); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    operator float*() const { return memory; }

  private:
    float* memory;
};

// ROWS × VECTORS sums in registers.
template <int ROWS, int VECTORS> struct Sums {
    Vector at[ROWS][VECTORS];

    INLINE void zero() {
        for (auto& row : at)
            for (auto& v : row) v = Vector{};
    }
    // += A B, with A[row, k] = a[row · row_step + k · k_step] and the rows of B along the vectors
    INLINE void add_product(const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t b_step,
                            int64_t count) {
        for (int64_t k = 0; k < count; k++) {
            Vector right[VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) right[v] = load(b + k * b_step + v * W);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++) {
                const Vector left = broadcast(a[r * row_step + k * k_step]);
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; v++) at[r][v] += left * right[v];
            }
        }
    }
    template <class F> INLINE void each(F f) {  // f(row, vector, sum), which may change the sum
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) f(r, v, at[r][v]);
    }
};

// Calls f<ROWS, VECTORS>(first row, first vector) until a matrix is covered. `rows` is a multiple of 8. The shapes are
// those that were fastest: they leave registers for the operands (32 with AVX-512, else 16).
template <class F> INLINE void blocks(int64_t rows, int64_t vectors, F f) {
    int64_t v = 0;
    if constexpr (W == 16)
        for (; v + 4 <= vectors; v += 4)
            for (int64_t r = 0; r < rows; r += 4) f.template operator()<4, 4>(r, v);
    for (; v + 2 <= vectors; v += 2)
        for (int64_t r = 0; r < rows; r += (W == 16 ? 8 : 4)) f.template operator()<(W == 16 ? 8 : 4), 2>(r, v);
    for (; v < vectors; v++)
        for (int64_t r = 0; r < rows; r += (W == 4 ? 4 : 8)) f.template operator()<(W == 4 ? 4 : 8), 1>(r, v);
}

typedef float Four __attribute__((vector_size(16)));
typedef int32_t Order __attribute__((vector_size(16)));
#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)  // numbers of a (from 0 on) and b (from 4 on)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, Order{__VA_ARGS__})  // GCC has the other one since version 12 only
#endif

// rows and columns are multiples of 4; `to` is (columns, rows)
INLINE void transpose(const float* from, int64_t rows, int64_t columns, int64_t from_step, float* to, int64_t to_step) {
    for (int64_t r = 0; r < rows; r += 4)
        for (int64_t c = 0; c < columns; c += 4) {
            Four in[4];
            for (int i = 0; i < 4; i++) std::memcpy(&in[i], from + (r + i) * from_step + c, sizeof(Four));
            const Four a = PICK(in[0], in[1], 0, 4, 1, 5);
            const Four b = PICK(in[0], in[1], 2, 6, 3, 7);
            const Four d = PICK(in[2], in[3], 0, 4, 1, 5);
            const Four e = PICK(in[2], in[3], 2, 6, 3, 7);
            const Four out[4] = {PICK(a, d, 0, 1, 4, 5), PICK(a, d, 2, 3, 6, 7), PICK(b, e, 0, 1, 4, 5),
                                 PICK(b, e, 2, 3, 6, 7)};
            for (int i = 0; i < 4; i++) std::memcpy(to + (c + i) * to_step + r, &out[i], sizeof(Four));
        }
}
