// A step's queries and keys turned to their positions (rotary, arXiv 2104.09864), and its keys and values cached.
#pragma once

#include <algorithm>
#include <cstdint>

#include "heads.h"
#include "numbers.h"
#include "rows.h"

// A head x [D] by angles with these cosines and sines [D / 2], after its RMS norm where there are weights for one [D].
// `out` may be x itself.
template <typename Number>
inline void turn(const Number* x, const Number* cosine, const Number* sine, const Number* norm, float epsilon,
                 int64_t size, Number* out) {
    if (norm != nullptr) {
        const float scale = reciprocal_rms(x, size, epsilon);
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) out[i] = narrow<Number>(widen(x[i]) * scale * widen(norm[i]));
        x = out;
    }
    const int64_t half = size / 2;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {  // i pairs with i + D / 2, as Hugging Face lays weights out
        const float first = widen(x[i]), second = widen(x[i + half]);
        out[i] = narrow<Number>(first * widen(cosine[i]) - second * widen(sine[i]));
        out[i + half] = narrow<Number>(second * widen(cosine[i]) + first * widen(sine[i]));
    }
}

// Tokens as tasks that any thread may take.
template <typename Number>
struct RotaryStep {
    const Number* qkv;  // [T, H + 2K, D]
    Number* queries;    // the turned ones, [T, H, D], `query_stride` apart; they may stand where they stood
    int64_t query_stride;
    const int32_t* kv_slots;  // [T]
    const Number* cosines;    // [T, D / 2]
    const Number* sines;
    const Number* query_norm;  // [D], or none
    const Number* key_norm;
    float epsilon;
    Number* cache;
    int64_t tokens;
    Heads heads;

    bool is_worth_threads() const {
        return tokens > 1 && tokens * (heads.queries + 2 * heads.keys) * heads.size > kSerialWork;
    }

    void run(int64_t token) const {
        const int64_t size = heads.size, angle = token * (size / 2);
        const Number* row = qkv + token * (heads.queries + 2 * heads.keys) * size;
        for (int64_t head = 0; head < heads.queries; ++head, row += size)
            turn(row, cosines + angle, sines + angle, query_norm, epsilon, size,
                 queries + token * query_stride + head * size);
        const int64_t block = kv_slots[token] / heads.block_size, offset = kv_slots[token] % heads.block_size;
        for (int64_t head = 0; head < heads.keys; ++head, row += size) {
            turn(row, cosines + angle, sines + angle, key_norm, epsilon, size,
                 cached(cache, heads, 0, block, head, offset));
            std::copy_n(row + heads.keys * size, size, cached(cache, heads, 1, block, head, offset));
        }
    }
};

template <typename Number>
void rotate_and_store(const RotaryStep<Number>& step) {
#pragma omp parallel for if (step.is_worth_threads())
    for (int64_t token = 0; token < step.tokens; ++token) step.run(token);
}
