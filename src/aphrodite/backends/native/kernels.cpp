// What Python calls, by number format: what a decoder does between its matrix products (the twins of
// operations.TorchOperations), what a vision tower does there, and with AVX512-BF16 the products and many queries'
// attention.
//
// Letters: T tokens, E hidden size, I intermediate size, H heads, K key/value heads, D head size.
// Sums are float, whatever the numbers are.

#include <cstdint>

#include "attention.h"
#include "heads.h"
#include "linear.h"
#include "numbers.h"
#include "prompt_attention.h"
#include "rotary.h"
#include "rows.h"
#include "tiles.h"

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
    extern "C" void rotate_and_store_##suffix(Number* qkv, const int32_t* kv_slots, const Number* cosines,             \
                                              const Number* sines, const Number* query_norm, const Number* key_norm,   \
                                              float epsilon, Number* cache, int64_t tokens, const Heads* heads) {      \
        rotate_and_store(RotaryStep<Number>{qkv, qkv, (heads->queries + 2 * heads->keys) * heads->size, kv_slots,      \
                                            cosines, sines, query_norm, key_norm, epsilon, cache, tokens, *heads});    \
    }                                                                                                                  \
    extern "C" void attend_rows_##suffix(const Number* queries, int64_t query_stride, const Number* cache,             \
                                         const int32_t* block_table, int64_t table_stride, const int32_t* lengths,     \
                                         int64_t window, float scale, float softcap, Number* out, int64_t rows,        \
                                         const Heads* heads) {                                                         \
        attend_rows(RowAttention<Number>{queries, query_stride, cache, block_table, table_stride, lengths, window,     \
                                         {scale, softcap}, out, rows, *heads});                                        \
    }

EXPORT(float, float32)
EXPORT(BFloat16, bfloat16)

#ifdef __AVX512BF16__
extern "C" void multiply_bfloat16(const Pair* x, const Pair* weight, const float* bias, BFloat16* y, int64_t rows,
                                  int64_t outputs, int64_t inputs) {
#ifdef APHRODITE_TILES
    if (takes_tiles(rows, inputs)) return multiply_tiled(x, weight, bias, y, rows, outputs, inputs);
#endif
    multiply(x, weight, bias, y, rows, outputs, inputs);
}

extern "C" void attend_chunk_bfloat16(const BFloat16* queries, int64_t query_stride, const BFloat16* cache,
                                      const int32_t* blocks, int64_t start, int64_t tokens, int64_t window,
                                      const int32_t* until, float scale, float softcap, BFloat16* out, const Heads* heads) {
    attend_chunk(queries, query_stride, cache, blocks, start, tokens, window, until, {scale, softcap}, out, *heads);
}

extern "C" void attend_pictures_bfloat16(const BFloat16* qkv, BFloat16* out, int64_t pictures, int64_t positions,
                                         int64_t num_heads, int64_t size) {
    attend_pictures(qkv, out, pictures, positions, num_heads, size);
}
#endif
