// Attention of a block of queries over keys and values that lie as prompt_attention.h packs them, by AMX tiles.
#pragma once

#include "packed_head.h"
#include "rows.h"
#include "tiles.h"

#ifdef APHRODITE_TILES

// 2^x for x up to 0: a power of two times a polynomial in what is left, right to 3e-6, where weights have 8 bits.
inline __m512 powers_of_two(__m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(x, whole);
    __m512 sum = _mm512_set1_ps(1.33336e-3f);
    for (const float coefficient : {9.61813e-3f, 5.550411e-2f, 0.24022651f, 0.69314718f, 1.0f})
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(coefficient));
    return _mm512_scalef_ps(sum, whole);
}

// Of scores [start, stop), both multiples of 32, those in [from, to) as weights that are not divided by their sum yet,
// zeros elsewhere; returns 1 / the sum.
inline float soften(const float* scores, BFloat16* weights, int64_t start, int64_t from, int64_t to, int64_t stop,
                    float scale) {
    const auto seen = [&](int64_t i) {
        return static_cast<__mmask16>(first_lanes(to - i) & ~first_lanes(from - i));
    };
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    __m512 highest = lowest;
    for (int64_t i = start; i < stop; i += kLanes)
        highest = _mm512_max_ps(highest, _mm512_mask_loadu_ps(lowest, seen(i), scores + i));
    const __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(highest)), factor = _mm512_set1_ps(scale * 1.44269504f);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = start; i < stop; i += kLanes) {
        const __m512 power = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(seen(i), scores + i), most), factor);
        const __m512 weight = _mm512_maskz_mov_ps(seen(i), powers_of_two(power));
        sum = _mm512_add_ps(sum, weight);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + i),
                            reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(weight)));
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
}

// Queries [first, first + rows) of one head, up to 32. `scores` holds 32 * `width` floats and `weights` as many
// bfloat16, `width` being C rounded up to 32.
struct TiledBlock {
    static constexpr int64_t kRows = 2 * kTileSide;

    void attend(const BFloat16* queries, int64_t query_stride, const PackedHead& packed, const Sight& sight,
                const Scoring& scoring, int64_t first, int64_t rows, int64_t size, BFloat16* out, int64_t out_stride, float* scores,
                BFloat16* weights) const {
        const int64_t width = PackedHead::round_up(sight.length, kPanelOutputs), steps = packed.key_pairs / kTileSide;
        const int64_t start = sight.first(first) / kPanelOutputs * kPanelOutputs;
        const int64_t stop = PackedHead::round_up(sight.furthest(first, rows), kPanelOutputs);
        Pair* const x = kept_memory<Pair>(kRows * packed.key_pairs);
        std::fill_n(x, kRows * packed.key_pairs, 0);
        for (int64_t row = 0; row < rows; ++row)
            std::memcpy(x + row * packed.key_pairs, queries + (first + row) * query_stride, size * sizeof(BFloat16));
        const BlockOfRows block = {x, x + kTileSide * packed.key_pairs, kTileSide, packed.key_pairs};
        for (int64_t key = start; key < stop; key += kPanelOutputs) {
            const Pair* panel = packed.keys + key * packed.key_pairs;
            add_tiles<2>(block, {{panel, panel + packed.key_pairs * kLanes}, nullptr, {}}, 0, steps, false,
                         scores + key, width);
        }
        float shares[kRows];
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t from = sight.first(first + row), to = sight.last(first + row);
            const float scale = scoring.bend(scores + row * width + from, to - from);
            shares[row] = soften(scores + row * width, weights + row * width, start, from, to, stop, scale);
        }
        const Pair* top = reinterpret_cast<const Pair*>(weights + start);
        const BlockOfRows weighed = {top, top + kTileSide * width / 2, kTileSide, width / 2};
        for (int64_t output = 0; output < size; output += kPanelOutputs) {
            const Pair* values = packed.values + output / kLanes * packed.value_stride + start / 2 * kLanes;
            Sums sums[2];
            add_tiles<2>(weighed, {{values, values + packed.value_stride}, nullptr, {}}, 0,
                         (stop - start) / kPanelOutputs, false, sums[0].rows[0], kPanelOutputs);
            for (int64_t row = 0; row < rows; ++row)
                for (int64_t half = 0; half < 2; ++half)
                    store(out + (first + row) * out_stride + output + half * kLanes,
                          first_lanes(size - output - half * kLanes),
                          _mm512_mul_ps(_mm512_load_ps(sums[row / kTileSide].rows[row % kTileSide] + half * kLanes),
                                        _mm512_set1_ps(shares[row])));
        }
    }

    TilesInUse tiles_in_use;
};

#endif
