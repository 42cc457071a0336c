// Attention of many queries at once in bfloat16, for processors with AVX512-BF16: of a prompt's chunk over the paged
// cache, or of a picture's positions over each other. Scores and sums are float; the weights of the values are rounded.
//
// Keys and values are first laid out as linear.h lays out a weight; then each tile of 14 queries of a head (32 where
// there is AMX) takes the scores of the keys that it sees, their softmax, and the weighted sum of the values.
#pragma once

#ifdef __AVX512BF16__

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "heads.h"
#include "kept_memory.h"
#include "linear.h"
#include "numbers.h"
#include "packed_head.h"
#include "rows.h"
#include "tiled_attention.h"

// Queries [first, first + rows) of one head. `scores` holds kTileRows * (C rounded up to 32) floats, `weights` as many
// bfloat16.
struct VectorBlock {
    static constexpr int64_t kRows = kTileRows;

    void attend(const BFloat16* queries, int64_t query_stride, const PackedHead& packed, const Sight& sight,
                const Scoring& scoring, int64_t first, int64_t rows, int64_t size, BFloat16* out, int64_t out_stride, float* scores,
                BFloat16* weights) const {
        const int64_t width = PackedHead::round_up(sight.length, kPanelOutputs), pairs = size / 2;
        const int64_t start = sight.first(first) / kPanelOutputs * kPanelOutputs, stop = sight.furthest(first, rows);
        const Pair* x = reinterpret_cast<const Pair*>(queries + first * query_stride);
        for (int64_t key = start; key < stop; key += kPanelOutputs) {
            const Pair* panel = packed.keys + key * packed.key_pairs;
            tile_of<float>(rows)(x, query_stride / 2,
                                 {{panel, panel + packed.key_pairs * kLanes}, nullptr, {0xFFFF, 0xFFFF}},
                                 scores + key, width, pairs);
        }
        const int64_t even_stop = (stop + 1) / 2 * 2;
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t from = sight.first(first + row), to = sight.last(first + row);
            float* score = scores + row * width;
            BFloat16* weight = weights + row * width;
            softmax_row(score + from, to - from, scoring.bend(score + from, to - from));
            std::fill(weight + start, weight + from, BFloat16{0});
            for (int64_t i = from; i < to; ++i) weight[i] = narrow<BFloat16>(score[i]);
            std::fill(weight + to, weight + even_stop, BFloat16{0});
        }
        const Pair* weight_pairs = reinterpret_cast<const Pair*>(weights + start);
        for (int64_t output = 0; output < size; output += kPanelOutputs) {
            const Pair* values = packed.values + output / kLanes * packed.value_stride + start / 2 * kLanes;
            tile_of<BFloat16>(rows)(weight_pairs, width / 2,
                                    {{values, values + packed.value_stride},
                                     nullptr,
                                     {first_lanes(size - output), first_lanes(size - output - kLanes)}},
                                    out + first * out_stride + output, out_stride, (even_stop - start) / 2);
        }
    }
};

// `num_packed` heads of keys and values, each for `group` heads of queries; `row(head, which, position)` and
// `queries(head)`, `out(head)` are where their numbers lie.
template <typename Block, typename Row, typename Queries, typename Out>
void attend_blocks(int64_t num_packed, int64_t group, int64_t tokens, const Sight& sight, const Scoring& scoring,
                   int64_t size, Row row, Queries queries, int64_t query_stride, Out out, int64_t out_stride) {
    const int64_t head_pairs = PackedHead::num_pairs(sight.length, size);
    Pair* const shared = reinterpret_cast<Pair*>(kept_memory<PackedLine>(num_packed * head_pairs / kLanes));
    const int64_t num_blocks = (tokens + Block::kRows - 1) / Block::kRows;
    const int64_t width = PackedHead::round_up(sight.length, kPanelOutputs);
#pragma omp parallel if (num_packed * group * tokens * sight.length * size > kSerialProducts)
    {
#pragma omp for schedule(dynamic)
        for (int64_t head = 0; head < num_packed; ++head)
            pack_head(PackedHead(shared + head * head_pairs, sight.length, size), sight.length, size,
                      [&](int64_t which, int64_t position) { return row(head, which, position); });
        const std::unique_ptr<float[]> scores(new float[Block::kRows * width]);
        const std::unique_ptr<BFloat16[]> weights(new BFloat16[Block::kRows * width]);
        const Block block;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < num_packed * group * num_blocks; ++task) {
            const int64_t head = task / num_blocks, first = task % num_blocks * Block::kRows;
            block.attend(queries(head), query_stride,
                         PackedHead(shared + head / group * head_pairs, sight.length, size), sight, scoring, first,
                         std::min(Block::kRows, tokens - first), size, out(head), out_stride, scores.get(),
                         weights.get());
        }
    }
}

template <typename... Arguments>
void attend_many(const Arguments&... arguments) {
#ifdef APHRODITE_TILES
    if (has_tiles()) return attend_blocks<TiledBlock>(arguments...);
#endif
    attend_blocks<VectorBlock>(arguments...);
}

// A chunk's tokens, whose keys and values are in the cache: queries [T, H, D] to out [T, H, D].
inline void attend_chunk(const BFloat16* queries, int64_t query_stride, const BFloat16* cache, const int32_t* blocks,
                         int64_t start, int64_t tokens, int64_t window, const int32_t* until,
                         const Scoring& scoring, BFloat16* out, const Heads& heads) {
    const int64_t size = heads.size;
    attend_many(
        heads.keys, heads.group(), tokens, Sight{start + tokens, start, window, until}, scoring, size,
        [&](int64_t head, int64_t which, int64_t position) {
            return cached(cache, heads, which, blocks[position / heads.block_size], head,
                          position % heads.block_size);
        },
        [&](int64_t head) { return queries + head * size; }, query_stride,
        [&](int64_t head) { return out + head * size; }, heads.queries * size);
}

// Pictures' positions: qkv [N, P, 3, H, D] to out [N, P, H, D].
inline void attend_pictures(const BFloat16* qkv, BFloat16* out, int64_t pictures, int64_t positions, int64_t num_heads,
                            int64_t size) {
    const int64_t width = num_heads * size;
    const Scoring scoring = {1.0f / std::sqrt(static_cast<float>(size)), 0.0f};
    const auto part = [&](int64_t index, int64_t which, int64_t position) {
        return qkv + ((index / num_heads * positions + position) * 3 + which) * width + index % num_heads * size;
    };
    attend_many(
        pictures * num_heads, int64_t{1}, positions, Sight{positions, -1, 0, nullptr}, scoring, size,
        [&](int64_t index, int64_t which, int64_t position) { return part(index, which + 1, position); },
        [&](int64_t index) { return part(index, 0, 0); }, 3 * width,
        [&](int64_t index) { return out + index / num_heads * positions * width + index % num_heads * size; }, width);
}

#endif
