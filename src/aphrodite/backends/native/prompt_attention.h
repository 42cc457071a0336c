// Attention of many queries at once in bfloat16, for processors with AVX512-BF16: of a prompt's chunk over the paged
// cache, or of a picture's positions over each other. Scores and sums are float; the weights of the values are rounded.
//
// Keys and values are first laid out as linear.h lays out a weight; then each tile of 14 queries of a head takes the
// scores of the keys that it sees, their softmax, and the weighted sum of the values.
#pragma once

#ifdef __AVX512BF16__

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "heads.h"
#include "linear.h"
#include "numbers.h"
#include "rows.h"

// Keys [C, D] as a weight of C outputs, values [C, D] as one of D outputs, for one head.
struct PackedHead {
    PackedHead(Pair* memory, int64_t length, int64_t size)
        : keys(memory), values(memory + keys_pairs(length, size)), value_stride((length + 1) / 2 * kLanes) {}

    static int64_t keys_pairs(int64_t length, int64_t size) { return round_up(length, kPanelOutputs) * size / 2; }
    static int64_t num_pairs(int64_t length, int64_t size) {
        return keys_pairs(length, size) + round_up(size, kPanelOutputs) * ((length + 1) / 2);
    }
    static int64_t round_up(int64_t number, int64_t multiple) { return (number + multiple - 1) / multiple * multiple; }

    Pair* keys;            // [C / 16, D / 2, 16]
    Pair* values;          // [D / 16, C / 2, 16]
    int64_t value_stride;  // pairs from 16 outputs to the next
};

// `row(which, position)` is where a head's keys (0) or values (1) of a position lie.
template <typename Row>
inline void pack_head(const PackedHead& packed, int64_t length, int64_t size, Row row) {
    for (int64_t position = 0; position < length; ++position) {
        const Pair* key = reinterpret_cast<const Pair*>(row(0, position));
        Pair* target = packed.keys + position / kLanes * (size / 2) * kLanes + position % kLanes;
        for (int64_t i = 0; i < size / 2; ++i) target[i * kLanes] = key[i];
    }
    const int64_t stride = packed.value_stride;
    for (int64_t position = 0; position < length; position += 2) {
        const BFloat16* first = row(1, position);
        const BFloat16* second = position + 1 < length ? row(1, position + 1) : nullptr;
        Pair* target = packed.values + position / 2 * kLanes;
        for (int64_t i = 0; i < PackedHead::round_up(size, kPanelOutputs); ++i) {
            const Pair low = i < size ? first[i].bits : 0, high = i < size && second != nullptr ? second[i].bits : 0;
            target[i / kLanes * stride + i % kLanes] = low | high << 16;
        }
    }
}

// What queries see: all keys, or with `start` not below 0 those up to their own position, which for the first is `start`.
struct Sight {
    int64_t length;  // C
    int64_t start;
    int64_t window;  // 0: any

    int64_t last(int64_t query) const { return start < 0 ? length : start + query + 1; }
    int64_t first(int64_t query) const { return window > 0 ? std::max<int64_t>(0, last(query) - window) : 0; }
};

// Queries [first, first + rows) of one head. `scores` holds kTileRows * (C rounded up to 32) floats, `weights` as many
// bfloat16.
inline void attend_tile(const BFloat16* queries, int64_t query_stride, const PackedHead& packed, const Sight& sight,
                        int64_t first, int64_t rows, int64_t size, BFloat16* out, int64_t out_stride, float* scores,
                        BFloat16* weights) {
    const int64_t width = PackedHead::round_up(sight.length, kPanelOutputs), pairs = size / 2;
    const int64_t start = sight.first(first) / kPanelOutputs * kPanelOutputs, stop = sight.last(first + rows - 1);
    const Pair* x = reinterpret_cast<const Pair*>(queries + first * query_stride);
    for (int64_t key = start; key < stop; key += kPanelOutputs) {
        const Pair* panel = packed.keys + key * pairs;
        tile_of<float>(rows)(x, query_stride / 2, {{panel, panel + pairs * kLanes}, nullptr, {0xFFFF, 0xFFFF}},
                             scores + key, width, pairs);
    }
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    const int64_t even_stop = (stop + 1) / 2 * 2;
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t from = sight.first(first + row), to = sight.last(first + row);
        float* score = scores + row * width;
        BFloat16* weight = weights + row * width;
        softmax_row(score + from, to - from, scale);
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

// `num_packed` heads of keys and values, each for `group` heads of queries; `row(head, which, position)` and
// `queries(head)`, `out(head)` are where their numbers lie.
template <typename Row, typename Queries, typename Out>
void attend_many(int64_t num_packed, int64_t group, int64_t tokens, const Sight& sight, int64_t size, Row row,
                 Queries queries, int64_t query_stride, Out out, int64_t out_stride) {
    static thread_local std::vector<uint32_t> memory;  // Pairs
    const int64_t head_pairs = PackedHead::num_pairs(sight.length, size);
    if (static_cast<int64_t>(memory.size()) < num_packed * head_pairs) memory.resize(num_packed * head_pairs);
    Pair* const shared = memory.data();
    const int64_t num_tiles = (tokens + kTileRows - 1) / kTileRows;
    const int64_t width = PackedHead::round_up(sight.length, kPanelOutputs);
#pragma omp parallel if (num_packed * group * tokens * sight.length * size > kSerialProducts)
    {
#pragma omp for schedule(dynamic)
        for (int64_t head = 0; head < num_packed; ++head)
            pack_head(PackedHead(shared + head * head_pairs, sight.length, size), sight.length, size,
                      [&](int64_t which, int64_t position) { return row(head, which, position); });
        const std::unique_ptr<float[]> scores(new float[kTileRows * width]);
        const std::unique_ptr<BFloat16[]> weights(new BFloat16[kTileRows * width]);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < num_packed * group * num_tiles; ++task) {
            const int64_t head = task / num_tiles, first = task % num_tiles * kTileRows;
            attend_tile(queries(head), query_stride,
                        PackedHead(shared + head / group * head_pairs, sight.length, size), sight, first,
                        std::min(kTileRows, tokens - first), size, out(head), out_stride, scores.get(), weights.get());
        }
    }
}

// A chunk's tokens, whose keys and values are in the cache: queries [T, H, D] to out [T, H, D].
inline void attend_chunk(const BFloat16* queries, int64_t query_stride, const BFloat16* cache, const int32_t* blocks,
                         int64_t start, int64_t tokens, int64_t window, BFloat16* out, const Heads& heads) {
    const int64_t size = heads.size;
    attend_many(
        heads.keys, heads.group(), tokens, {start + tokens, start, window}, size,
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
    const auto part = [&](int64_t index, int64_t which, int64_t position) {
        return qkv + ((index / num_heads * positions + position) * 3 + which) * width + index % num_heads * size;
    };
    attend_many(
        pictures * num_heads, 1, positions, {positions, -1, 0}, size,
        [&](int64_t index, int64_t which, int64_t position) { return part(index, which + 1, position); },
        [&](int64_t index) { return part(index, 0, 0); }, 3 * width,
        [&](int64_t index) { return out + index / num_heads * positions * width + index % num_heads * size; }, width);
}

#endif
