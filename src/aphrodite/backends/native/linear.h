// Products of a few or many rows with a bfloat16 weight, for processors with AVX512-BF16: y = x w^T + bias.
//
// The weight is laid out in panels of 32 outputs, [outputs / 32, 2, inputs / 2, 16, 2]: an instruction multiplies a pair
// of inputs into 16 outputs. With few rows the weight streams from memory once; what bounds that is how far ahead it is
// fetched, since every panel starts two streams anew.
#pragma once

#ifdef __AVX512BF16__

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "lanes.h"
#include "numbers.h"

constexpr int64_t kPanelOutputs = 2 * kLanes;
constexpr int64_t kTileRows = 14;     // with two sums a row, two weights and an input they fill the 32 registers
constexpr int64_t kRowsAtOnce = 512;  // whose inputs stay in a core's cache from one panel to the next
constexpr int64_t kSerialProducts = 1 << 18;  // below, waking the other threads costs more than it saves
constexpr int64_t kPairsAhead = 64;   // 4 KiB of each stream, measured on a Zen 5

using Pair __attribute__((may_alias)) = uint32_t;  // two bfloat16, also where they were written one by one

struct Panel {
    const Pair* weights[2];  // each [pairs, 16]
    const float* bias;       // [32], or none
    __mmask16 masks[2];      // the outputs that exist
};

inline Panel panel_of(const Pair* weight, const float* bias, int64_t index, int64_t outputs, int64_t pairs) {
    const int64_t output = index * kPanelOutputs, left = outputs - output;
    const Pair* start = weight + output * pairs;
    return {{start, start + pairs * kLanes},
            bias == nullptr ? nullptr : bias + output,
            {first_lanes(left), first_lanes(left - kLanes)}};
}

// What the bias adds to each output.
inline __m512 start_of(const Panel& panel, int half) {
    return panel.bias == nullptr ? _mm512_setzero_ps()
                                 : _mm512_maskz_loadu_ps(panel.masks[half], panel.bias + half * kLanes);
}

inline void store(BFloat16* y, __mmask16 mask, __m512 sums) {
    _mm256_mask_storeu_epi16(y, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sums)));
}

inline void store(float* y, __mmask16 mask, __m512 sums) { _mm512_mask_storeu_ps(y, mask, sums); }

template <int Rows, typename Output>
void multiply_tile(const Pair* x, int64_t x_stride, const Panel& panel, Output* y, int64_t y_stride, int64_t pairs) {
    __m512 sums[Rows][2];
    for (int half = 0; half < 2; ++half) {
        const __m512 start = start_of(panel, half);
        for (int row = 0; row < Rows; ++row) sums[row][half] = start;
    }
    for (int64_t i = 0; i < pairs; ++i) {
        __m512bh loaded[2];
        for (int half = 0; half < 2; ++half) {
            const Pair* weight = panel.weights[half] + i * kLanes;
            _mm_prefetch(reinterpret_cast<const char*>(weight + kPairsAhead * kLanes), _MM_HINT_T0);
            loaded[half] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(weight));
        }
        for (int row = 0; row < Rows; ++row) {
            const auto input = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(x[row * x_stride + i])));
            for (int half = 0; half < 2; ++half)
                sums[row][half] = _mm512_dpbf16_ps(sums[row][half], loaded[half], input);
        }
    }
    for (int row = 0; row < Rows; ++row)
        for (int half = 0; half < 2; ++half)
            store(y + row * y_stride + half * kLanes, panel.masks[half], sums[row][half]);
}

// The tile of so many rows, 1 to kTileRows.
template <typename Output, int Rows = kTileRows>
inline auto tile_of(int64_t rows) {
    if constexpr (Rows > 1)
        return rows == Rows ? multiply_tile<Rows, Output> : tile_of<Output, Rows - 1>(rows);
    else
        return multiply_tile<1, Output>;
}

inline void multiply(const Pair* x, const Pair* weight, const float* bias, BFloat16* y, int64_t rows, int64_t outputs,
                     int64_t inputs) {
    const int64_t pairs = inputs / 2, num_panels = (outputs + kPanelOutputs - 1) / kPanelOutputs;
    for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
        const int64_t last = std::min(rows, first + kRowsAtOnce);
        const int64_t num_tiles = (last - first + kTileRows - 1) / kTileRows;
        const int64_t tile_rows = (last - first + num_tiles - 1) / num_tiles;  // of about the same height
#pragma omp parallel for schedule(static) if (rows * outputs * inputs > kSerialProducts)
        for (int64_t index = 0; index < num_panels; ++index) {
            const int64_t output = index * kPanelOutputs;
            const Panel panel = panel_of(weight, bias, index, outputs, pairs);
            for (int64_t row = first; row < last; row += tile_rows)
                tile_of<BFloat16>(std::min(tile_rows, last - row))(x + row * pairs, pairs, panel,
                                                                   y + row * outputs + output, outputs, pairs);
        }
    }
}

#endif
