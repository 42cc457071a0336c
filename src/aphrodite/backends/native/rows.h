// Norms, softmax and activations, row by row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>

#include "heads.h"
#include "numbers.h"

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

template <typename Number>
inline float reciprocal_rms(const Number* x, int64_t size, float epsilon) {
    float sum = 0.0f;
    for (int64_t i = 0; i < size; ++i) sum += widen(x[i]) * widen(x[i]);
    return 1.0f / std::sqrt(sum / static_cast<float>(size) + epsilon);
}

template <typename Number>
void add_rms_norm(Number* residual, const Number* x, const Number* weight, Number* normed, int64_t tokens, int64_t width,
                  float epsilon) {
#pragma omp parallel for if (tokens * width > kSerialWork)
    for (int64_t token = 0; token < tokens; ++token) {
        Number* row = residual + token * width;
        if (x != nullptr) {
            const Number* added = x + token * width;
            for (int64_t i = 0; i < width; ++i) row[i] = narrow<Number>(widen(row[i]) + widen(added[i]));
        }
        const float scale = reciprocal_rms(row, width, epsilon);
        Number* out = normed + token * width;
        for (int64_t i = 0; i < width; ++i) out[i] = narrow<Number>(widen(row[i]) * scale * widen(weight[i]));
    }
}

template <typename Number>
void layer_norm(const Number* x, const Number* weight, const Number* bias, Number* normed, int64_t rows, int64_t width,
                float epsilon) {
#pragma omp parallel for if (rows * width > kSerialWork)
    for (int64_t index = 0; index < rows; ++index) {
        const Number* row = x + index * width;
        Number* out = normed + index * width;
        float sum = 0.0f, squares = 0.0f;
        for (int64_t i = 0; i < width; ++i) sum += widen(row[i]);
        const float mean = sum / static_cast<float>(width);
        for (int64_t i = 0; i < width; ++i) squares += (widen(row[i]) - mean) * (widen(row[i]) - mean);
        const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
        for (int64_t i = 0; i < width; ++i)
            out[i] = narrow<Number>((widen(row[i]) - mean) * scale * widen(weight[i]) + widen(bias[i]));
    }
}

template <typename Number>
void gate_silu(const Number* gate_up, Number* out, int64_t tokens, int64_t width) {
#pragma omp parallel for if (tokens * width > kSerialWork)
    for (int64_t token = 0; token < tokens; ++token) {
        const Number* gate = gate_up + 2 * token * width;
        const Number* up = gate + width;
        Number* row = out + token * width;
        for (int64_t i = 0; i < width; ++i) {
            const float x = widen(gate[i]);
            row[i] = narrow<Number>(x * sigmoid(x) * widen(up[i]));
        }
    }
}

// x times the sigmoid of (linear x + cubic x^3), in place: the quick and the tanh form of GELU (arXiv 1606.08415).
template <typename Number>
void sigmoid_gelu(Number* x, int64_t size, float linear, float cubic) {
#pragma omp parallel for if (size > kSerialWork)
    for (int64_t i = 0; i < size; ++i) {
        const float number = widen(x[i]);
        x[i] = narrow<Number>(number * sigmoid(number * (linear + cubic * number * number)));
    }
}

// What scores are made of the products of queries and keys.
struct Scoring {
    float scale;    // above 0
    float softcap;  // a bound that scores bend to: softcap * tanh(score / softcap); 0: none

    // Bends products, where there is a bound, and returns what they are to be multiplied with then.
    float bend(float* products, int64_t length) const {
        if (softcap == 0.0f) return scale;
        // tanh(x) is 2 sigmoid(2 x) - 1.
        for (int64_t i = 0; i < length; ++i) products[i] = 2.0f * sigmoid(2.0f * products[i] * (scale / softcap)) - 1.0f;
        return softcap;
    }
};

// In place, of scores times `scale`, which is above 0.
inline void softmax_row(float* scores, int64_t length, float scale) {
    float highest = -std::numeric_limits<float>::infinity(), total = 0.0f;
    // As numbers may be NaN, compilers compare one at a time unless told otherwise; std::max they do not look into.
#pragma omp simd reduction(max : highest)
    for (int64_t i = 0; i < length; ++i) highest = scores[i] > highest ? scores[i] : highest;
    for (int64_t i = 0; i < length; ++i) {
        scores[i] = exponential((scores[i] - highest) * scale);
        total += scores[i];
    }
    const float share = 1.0f / total;
    for (int64_t i = 0; i < length; ++i) scores[i] *= share;
}

// In place, of scores [rows, keys] times `scale`. With `queries` above 0 the rows are those of so many tokens, the last of
// the keys' own, again and again: each sees the keys up to itself, and of those the last `window`, if that is above 0.
template <typename Number>
void softmax(Number* scores, int64_t rows, int64_t keys, float scale, int64_t queries, int64_t window) {
#pragma omp parallel if (rows * keys > kSerialWork)
    {
        const std::unique_ptr<float[]> wide(new float[keys]);
#pragma omp for
        for (int64_t index = 0; index < rows; ++index) {
            Number* row = scores + index * keys;
            const int64_t last = queries > 0 ? keys - queries + index % queries + 1 : keys;
            const int64_t first = window > 0 ? std::max<int64_t>(0, last - window) : 0;
            for (int64_t i = first; i < last; ++i) wide[i] = widen(row[i]);
            softmax_row(wide.get() + first, last - first, scale);
            std::fill(row, row + first, narrow<Number>(0.0f));
            for (int64_t i = first; i < last; ++i) row[i] = narrow<Number>(wide[i]);
            std::fill(row + last, row + keys, narrow<Number>(0.0f));
        }
    }
}
