// Walks the chunks of all sequences. A `Source` says where x, dt, B and C come from and where y and the gradients go.
//
// A task is the whole of one group of one sequence, or some of its heads where there are too few groups for the
// threads. Gradients of B and C are first added up for each UNIT of heads, then over the units in order. So all sums
// have the same order in both cases, and the result has the same bits for any number of threads.
#pragma once
#include <vector>

#include "chunk.h"

struct Tasks {
    int64_t unit;   // heads whose gradients of B and C are added up together
    bool whole;     // a task is a whole group
    int64_t heads;  // of a task
    int64_t per_group, count;

    explicit Tasks(const Sizes& s) {
        const int64_t groups = s.batch * s.groups, Hg = s.per_group();
        unit = std::min(Hg, std::max<int64_t>(1, 128 / s.headdim));
        const int64_t units = (Hg + unit - 1) / unit;
        int64_t parts = 1;  // of a group: as few as give all threads the same number of tasks, since each loads B and C
        if (groups < 4 * s.threads)
            while (parts < units && groups * parts % s.threads) parts++;
        whole = parts == 1;
        heads = whole ? Hg : unit * ((units + parts - 1) / parts);
        per_group = (Hg + heads - 1) / heads;
        count = groups * per_group;
    }
};

struct Place {  // where a task is: the sequence, the group, its heads (counted over all groups)
    int64_t b, g, first, last;

    Place(const Sizes& s, const Tasks& tasks, int64_t task) {
        const int64_t group = task / tasks.per_group, part = task % tasks.per_group;
        b = group / s.groups, g = group % s.groups;
        first = g * s.per_group() + part * tasks.heads;
        last = std::min(first + tasks.heads, (g + 1) * s.per_group());
    }
};

// (headdim, state) of the caller, and the tile (state, headdim) of a chunk
INLINE void load_state(const Sizes& s, const float* from, float* tile) {
    std::memset(tile, 0, s.N() * s.P() * sizeof(float));
    if (from)
        for (int64_t p = 0; p < s.headdim; p++)
            for (int64_t n = 0; n < s.state; n++) tile[n * s.P() + p] = from[p * s.state + n];
}
INLINE void store_state(const Sizes& s, const float* tile, float* to) {
    for (int64_t p = 0; p < s.headdim; p++)
        for (int64_t n = 0; n < s.state; n++) to[p * s.state + n] = tile[n * s.P() + p];
}

struct Kept {  // for the gradient, as tiles; null where nothing is kept
    float *states, *y;  // (batch, chunks + 1, heads, N, P) and (batch, chunks, heads, Q, P), in the order of their use

    float* state(const Sizes& s, int64_t b, int64_t h, int64_t k) const {
        return states + ((b * (s.chunks() + 1) + k) * s.heads + h) * s.N() * s.P();
    }
    float* output(const Sizes& s, int64_t b, int64_t h, int64_t k) const {
        return y + ((b * s.chunks() + k) * s.heads + h) * s.chunk * s.P();
    }
};

template <class Source>
void scan_forward(const Sizes& s, const Source& source, const float* A, const float* D, const float* initial,
                  float* final, Kept kept) {
    const Tasks tasks(s);
    const int64_t state = s.N() * s.P(), tile = s.chunk * s.P();
    const bool later = Source::JOINS_HEADS && !tasks.whole;  // then the groups are finished when all tasks are done
    Buffer outputs(later && !kept.y ? s.batch * s.heads * s.chunks() * tile : 0, false);
    if (later && !kept.y) kept.y = outputs;
#pragma omp parallel num_threads(s.threads)
    {
        Chunk chunk(s, false);
        typename Source::Local local(s, false);
        Buffer states(kept.states ? 0 : 2 * tasks.heads * state), ys(kept.y ? 0 : tasks.heads * tile);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tasks.count; task++) {
            const Place at(s, tasks, task);
            auto state_at = [&](int64_t h, int64_t k) {
                return kept.states ? kept.state(s, at.b, h, k) : states + ((h - at.first) * 2 + k % 2) * state;
            };
            auto y_at = [&](int64_t h, int64_t k) {
                return kept.y ? kept.output(s, at.b, h, k) : ys + (h - at.first) * tile;
            };
            for (int64_t h = at.first; h < at.last; h++)
                load_state(s, initial ? initial + (at.b * s.heads + h) * s.headdim * s.state : nullptr, state_at(h, 0));
            for (int64_t k = 0; k < s.chunks(); k++) {
                source.load_group(chunk, local, at.b, at.g, k, false);
                chunk.share();
                for (int64_t h = at.first; h < at.last; h++) {
                    source.load_head(chunk, local, at.b, h, k, false);
                    chunk.decays.compute(A[h]);
                    chunk.forward(D[h], state_at(h, k), state_at(h, k + 1), y_at(h, k));
                    source.store_head(at.b, h, k, y_at(h, k));
                }
                if (!later)
                    source.store_group(local, at.b, at.g, k, y_at(at.first, k),
                                       y_at(at.first + 1, k) - y_at(at.first, k));
            }
            if (final)
                for (int64_t h = at.first; h < at.last; h++)
                    store_state(s, state_at(h, s.chunks()), final + (at.b * s.heads + h) * s.headdim * s.state);
        }
        if (later) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < s.batch * s.groups * s.chunks(); i++) {
                const int64_t k = i % s.chunks(), g = i / s.chunks() % s.groups, b = i / s.chunks() / s.groups,
                              h = g * s.per_group();
                source.store_group(local, b, g, k, kept.output(s, b, h, k), tile);
            }
        }
    }
}

// `sums` holds for every sequence the gradients of the parameters, from dA and dD (heads) on; `total` is their sum.
template <class Source>
void scan_backward(const Sizes& s, const Source& source, const float* A, const float* D, Kept kept, const float* dfinal,
                   float* dinitial, float* sums, int64_t sums_size, float* total) {
    const Tasks tasks(s);
    const int64_t state = s.N() * s.P(), shared = s.chunk * s.N(), chunks = s.chunks(),
                  units = (s.per_group() + tasks.unit - 1) / tasks.unit;
    // gradients of B and C by unit
    Buffer parts(tasks.whole ? 0 : s.batch * s.groups * units * chunks * 2 * shared, false);
    auto part = [&](int64_t b, int64_t g, int64_t unit, int64_t k) {
        return parts + (((b * s.groups + g) * units + unit) * chunks + k) * 2 * shared;
    };
    auto add = [&](float* to, const float* from, bool first) {
        for (int64_t i = 0; i < shared; i += W) store(to + i, first ? load(from + i) : load(to + i) + load(from + i));
    };
#pragma omp parallel num_threads(s.threads)
    {
        Chunk chunk(s, true);
        typename Source::Local local(s, true);
        Buffer dstates(tasks.heads * state), dB(shared), dC(shared);
        std::vector<double> dA(tasks.heads), dD(tasks.heads);
        if (!tasks.whole) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < s.batch * s.groups * chunks; i++)
                source.prepare_group(local, i / chunks / s.groups, i / chunks % s.groups, i % chunks, kept);
        }
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tasks.count; task++) {
            const Place at(s, tasks, task);
            local.start();
            for (int64_t h = at.first; h < at.last; h++) {
                load_state(s, dfinal ? dfinal + (at.b * s.heads + h) * s.headdim * s.state : nullptr,
                           dstates + (h - at.first) * state);
                dA[h - at.first] = dD[h - at.first] = 0;
            }
            for (int64_t k = chunks - 1; k >= 0; k--) {
                if (tasks.whole) source.prepare_group(local, at.b, at.g, k, kept);
                source.load_group(chunk, local, at.b, at.g, k, true);
                chunk.share();
                for (int64_t first = at.first; first < at.last; first += tasks.unit) {
                    chunk.begin_backward();
                    for (int64_t h = first; h < std::min(first + tasks.unit, at.last); h++) {
                        const int64_t own = h - at.first;
                        source.load_head(chunk, local, at.b, h, k, true);
                        source.load_gradient(chunk, local, at.b, h, k, kept);
                        chunk.decays.compute(A[h]);
                        chunk.backward(A[h], D[h], kept.state(s, at.b, h, k), dstates + own * state, dA[own], dD[own]);
                        source.store_head_gradient(chunk, local, at.b, h, k, own);
                    }
                    chunk.end_backward();
                    float* to = tasks.whole ? dB : part(at.b, at.g, (first - at.g * s.per_group()) / tasks.unit, k);
                    float* to_C = tasks.whole ? dC : to + shared;
                    add(to, chunk.dB, !tasks.whole || first == at.first);
                    add(to_C, chunk.dC, !tasks.whole || first == at.first);
                }
                if (tasks.whole) source.store_group_gradient(local, at.b, at.g, k, dB, dC);
            }
            for (int64_t h = at.first; h < at.last; h++) {
                sums[at.b * sums_size + h] = dA[h - at.first];
                sums[at.b * sums_size + s.heads + h] = dD[h - at.first];
                if (dinitial)
                    store_state(s, dstates + (h - at.first) * state,
                                dinitial + (at.b * s.heads + h) * s.headdim * s.state);
            }
        }
        if (!tasks.whole) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < s.batch * s.groups; i++) {
                local.start();
                for (int64_t k = chunks - 1; k >= 0; k--) {
                    source.load_group(chunk, local, i / s.groups, i % s.groups, k, true);
                    for (int64_t unit = 0; unit < units; unit++) {
                        add(dB, part(i / s.groups, i % s.groups, unit, k), unit == 0);
                        add(dC, part(i / s.groups, i % s.groups, unit, k) + shared, unit == 0);
                    }
                    source.store_group_gradient(local, i / s.groups, i % s.groups, k, dB, dC);
                }
            }
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < sums_size; i++) {
            total[i] = 0;
            for (int64_t b = 0; b < s.batch; b++) total[i] += sums[b * sums_size + i];
        }
    }
}
