// Mamba-1's selective scan, forward; the equations are in mamba1.h.
#include "mamba1.h"

namespace mamba1 {

// h and y of a chunk for K states of one vector of channels
template <int K> static void advance(Chunk& chunk, int64_t n, int64_t v) {
    const int64_t width = chunk.width, states = chunk.scan.states;
    Vector decay[K], h[K];
    for (int k = 0; k < K; k++) {
        decay[k] = load(chunk.decay + (n + k) * width + v);
        h[k] = load(chunk.h + (n + k) * width + v);
    }
    for (int64_t t = 0; t < chunk.size; t++) {
        const int64_t at = t * width + v;
        Vector u = load(chunk.u + at), ux = load(chunk.ux + at), y = load(chunk.y + at);
        const float *B = chunk.B + t * states + n, *C = chunk.C + t * states + n;
        for (int k = 0; k < K; k++) {
            h[k] = power_of_two(u * decay[k]) * h[k] + ux * B[k];
            y += h[k] * C[k];
        }
        store(chunk.y + at, y);
    }
    for (int k = 0; k < K; k++) store(chunk.h + (n + k) * width + v, h[k]);
}

static void write(const Chunk& chunk) {
    const Scan& scan = chunk.scan;
    for (int64_t t = 0; t < chunk.size; t++)
        for (int64_t v = 0; v < chunk.channels; v += W) {
            Vector y = load(chunk.y + t * chunk.width + v);
            if (scan.z.data) {
                Vector z = get(scan.z, chunk.address(scan.z, t) + v, chunk.inside(v));
                y = y * z * sigmoid(z);
            }
            set(scan.out, chunk.address(scan.out, t) + v, y, chunk.inside(v));
        }
}

static void keep(const Chunk& chunk, const Plan& plan, int64_t index) {
    const Scan& scan = chunk.scan;
    for (int64_t n = 0; n < scan.states; n++) {
        const int64_t at = ((chunk.row * plan.chunks + index) * scan.states + n) * scan.channels + chunk.first_channel;
        for (int64_t v = 0; v < chunk.channels; v += W)
            store(scan.kept + at + v, load(chunk.h + n * chunk.width + v), chunk.inside(v));
    }
}

static void run(Chunk& chunk, const Plan& plan, const Task& task) {
    const Scan& scan = chunk.scan;
    chunk.begin(task);
    const int64_t first = (task.row * scan.channels + task.first) * scan.states;
    for (int64_t n = 0; n < scan.states; n++)
        for (int64_t c = 0; c < task.channels; c++)
            chunk.h[n * plan.width + c] = scan.state[first + c * scan.states + n];
    for (int64_t index = 0; index < plan.chunks; index++) {
        chunk.read(index * T);
        if (scan.kept) keep(chunk, plan, index);
        by_states(scan.states, [&]<int K>(int64_t n) {
            for (int64_t v = 0; v < task.channels; v += W) advance<K>(chunk, n, v);
        });
        write(chunk);
    }
    for (int64_t n = 0; n < scan.states; n++)
        for (int64_t c = 0; c < task.channels; c++)
            scan.final[first + c * scan.states + n] = chunk.h[n * plan.width + c];
}

}  // namespace mamba1

extern "C" void mamba1_forward(const mamba1::Scan* scan, int64_t threads) {
    using namespace mamba1;
    const Plan plan(*scan);
#pragma omp parallel num_threads(threads)
    {
        Chunk chunk(*scan, plan);
#pragma omp for schedule(dynamic)
        for (int64_t index = 0; index < plan.tasks; index++) run(chunk, plan, Task(*scan, plan, index));
    }
}
