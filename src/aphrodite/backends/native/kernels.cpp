// What Python calls, by number format: what a decoder does between its matrix products (the twins of
// operations.TorchOperations), what a vision tower does there, and with AVX512-BF16 the products and many queries'
// attention.
//
// Letters: T tokens, E hidden size, I intermediate size, H heads, K key/value heads, D head size.
// Sums are float, whatever the numbers are.

#include <algorithm>
#include <cstdint>

#include "attention.h"
#include "heads.h"
#include "linear.h"
#include "numbers.h"
#include "prompt_attention.h"
#include "rows.h"

namespace {

template <typename Number>
void rotate_and_store(Number* qkv, const int32_t* positions, const int32_t* kv_slots, const Number* cosines,
                      const Number* sines, const Number* query_norm, const Number* key_norm, float epsilon,
                      Number* cache, int64_t tokens, const Heads& heads) {
    const int64_t half = heads.size / 2, width = (heads.queries + 2 * heads.keys) * heads.size;
#pragma omp parallel for if (tokens * width > kSerialWork)
    for (int64_t token = 0; token < tokens; ++token) {
        Number* row = qkv + token * width;
        const Number* cosine = cosines + positions[token] * half;
        const Number* sine = sines + positions[token] * half;
        for (int64_t head = 0; head < heads.queries + heads.keys; ++head) {
            Number* x = row + head * heads.size;
            const Number* norm = head < heads.queries ? query_norm : key_norm;
            if (norm != nullptr) {
                const float scale = reciprocal_rms(x, heads.size, epsilon);
                for (int64_t i = 0; i < heads.size; ++i) x[i] = narrow<Number>(widen(x[i]) * scale * widen(norm[i]));
            }
            for (int64_t i = 0; i < half; ++i) {  // i pairs with i + D / 2, as Hugging Face lays weights out
                const float first = widen(x[i]), second = widen(x[i + half]);
                x[i] = narrow<Number>(first * widen(cosine[i]) - second * widen(sine[i]));
                x[i + half] = narrow<Number>(second * widen(cosine[i]) + first * widen(sine[i]));
            }
        }
        const int64_t block = kv_slots[token] / heads.block_size, offset = kv_slots[token] % heads.block_size;
        for (int64_t head = 0; head < 2 * heads.keys; ++head) {
            Number* target = cached(cache, heads, head / heads.keys, block, head % heads.keys, offset);
            std::copy_n(row + (heads.queries + head) * heads.size, heads.size, target);
        }
    }
}

}  // namespace

#define EXPORT(Number, suffix)                                                                                         \
    extern "C" void add_rms_norm_##suffix(Number* residual, const Number* x, const Number* weight, Number* normed,     \
                                          int64_t tokens, int64_t width, float epsilon) {                              \
        add_rms_norm(residual, x, weight, normed, tokens, width, epsilon);                                             \
    }                                                                                                                  \
    extern "C" void layer_norm_##suffix(const Number* x, const Number* weight, const Number* bias, Number* normed,     \
                                        int64_t rows, int64_t width, float epsilon) {                                  \
        layer_norm(x, weight, bias, normed, rows, width, epsilon);                                                     \
    }                                                                                                                  \
    extern "C" void sigmoid_gelu_##suffix(Number* x, int64_t size, float linear, float cubic) {                        \
        sigmoid_gelu(x, size, linear, cubic);                                                                          \
    }                                                                                                                  \
    extern "C" void softmax_##suffix(Number* scores, int64_t rows, int64_t keys, float scale, int64_t queries,         \
                                     int64_t window) {                                                                 \
        softmax(scores, rows, keys, scale, queries, window);                                                           \
    }                                                                                                                  \
    extern "C" void gate_silu_##suffix(const Number* gate_up, Number* out, int64_t tokens, int64_t width) {            \
        gate_silu(gate_up, out, tokens, width);                                                                        \
    }                                                                                                                  \
    extern "C" void rotate_and_store_##suffix(Number* qkv, const int32_t* positions, const int32_t* kv_slots,          \
                                              const Number* cosines, const Number* sines, const Number* query_norm,    \
                                              const Number* key_norm, float epsilon, Number* cache, int64_t tokens,    \
                                              const Heads* heads) {                                                    \
        rotate_and_store(qkv, positions, kv_slots, cosines, sines, query_norm, key_norm, epsilon, cache, tokens,       \
                         *heads);                                                                                      \
    }                                                                                                                  \
    extern "C" void attend_rows_##suffix(const Number* queries, int64_t query_stride, const Number* cache,             \
                                         const int32_t* block_table, int64_t table_stride, const int32_t* lengths,     \
                                         int64_t window, Number* out, int64_t rows, const Heads* heads) {              \
        attend_rows(RowAttention<Number>{queries, query_stride, cache, block_table, table_stride, lengths, window,     \
                                         out, rows, *heads});                                                          \
    }

EXPORT(float, float32)
EXPORT(BFloat16, bfloat16)

#ifdef __AVX512BF16__
extern "C" void multiply_bfloat16(const Pair* x, const Pair* weight, const float* bias, BFloat16* y, int64_t rows,
                                  int64_t outputs, int64_t inputs) {
    multiply(x, weight, bias, y, rows, outputs, inputs);
}

extern "C" void attend_chunk_bfloat16(const BFloat16* queries, int64_t query_stride, const BFloat16* cache,
                                      const int32_t* blocks, int64_t start, int64_t tokens, int64_t window,
                                      BFloat16* out, const Heads* heads) {
    attend_chunk(queries, query_stride, cache, blocks, start, tokens, window, out, *heads);
}

extern "C" void attend_pictures_bfloat16(const BFloat16* qkv, BFloat16* out, int64_t pictures, int64_t positions,
                                         int64_t num_heads, int64_t size) {
    attend_pictures(qkv, out, pictures, positions, num_heads, size);
}
#endif
