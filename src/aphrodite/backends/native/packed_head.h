// One head's keys and values, laid out for products in bfloat16 as linear.h lays out a weight; and what queries see.
#pragma once

#ifdef __AVX512BF16__

#include <algorithm>
#include <cstdint>

#include "linear.h"
#include "numbers.h"

// A line of the cache; rooms for it begin with one.
struct alignas(64) PackedLine {
    Pair pairs[kLanes];
};

// Keys [C, D] as a weight of C outputs, values [C, D] as one of D outputs, for one head.
struct PackedHead {
    PackedHead(Pair* memory, int64_t length, int64_t size)
        : key_pairs(round_up(size / 2, kLanes)),
          value_stride(round_up(length, kPanelOutputs) / 2 * kLanes),
          keys(memory),
          values(memory + round_up(length, kPanelOutputs) * key_pairs) {}

    static int64_t num_pairs(int64_t length, int64_t size) {
        return round_up(length, kPanelOutputs) * (round_up(size / 2, kLanes) + round_up(size, kPanelOutputs) / 2);
    }
    static int64_t round_up(int64_t number, int64_t multiple) { return (number + multiple - 1) / multiple * multiple; }

    int64_t key_pairs;     // of a key, filled up to 16
    int64_t value_stride;  // pairs from 16 outputs to the next
    Pair* keys;            // [C / 16, key_pairs, 16]
    Pair* values;          // [D / 16, C / 2, 16]
};

// `row(which, position)` is where a head's keys (0) or values (1) of a position lie.
template <typename Row>
inline void pack_head(const PackedHead& packed, int64_t length, int64_t size, Row row) {
    for (int64_t position = 0; position < length; ++position) {
        const Pair* key = reinterpret_cast<const Pair*>(row(0, position));
        Pair* target = packed.keys + position / kLanes * packed.key_pairs * kLanes + position % kLanes;
        for (int64_t i = 0; i < packed.key_pairs; ++i) target[i * kLanes] = i < size / 2 ? key[i] : 0;
    }
    const int64_t stride = packed.value_stride;
    for (int64_t position = 0; position < PackedHead::round_up(length, kPanelOutputs); position += 2) {
        const BFloat16* first = position < length ? row(1, position) : nullptr;
        const BFloat16* second = position + 1 < length ? row(1, position + 1) : nullptr;
        Pair* target = packed.values + position / 2 * kLanes;
        for (int64_t i = 0; i < PackedHead::round_up(size, kPanelOutputs); ++i) {
            const Pair low = i < size && first != nullptr ? first[i].bits : 0;
            const Pair high = i < size && second != nullptr ? second[i].bits : 0;
            target[i / kLanes * stride + i % kLanes] = low | high << 16;
        }
    }
}

// What queries see: all keys, or with `start` not below 0 those up to their own position, which is `start` for the
// first, and those before `until`, where that is more; `until` is null where it is nowhere more.
struct Sight {
    int64_t length;  // C
    int64_t start;
    int64_t window;  // 0: any
    const int32_t* until;

    int64_t last(int64_t query) const {
        const int64_t own = start < 0 ? length : start + query + 1;
        return until == nullptr ? own : std::max<int64_t>(own, until[query]);
    }
    int64_t first(int64_t query) const { return window > 0 ? std::max<int64_t>(0, start + query + 1 - window) : 0; }

    // Of so many queries from one on, the key after the last that any sees.
    int64_t furthest(int64_t query, int64_t count) const {
        if (until == nullptr) return last(query + count - 1);
        int64_t found = 0;
        for (int64_t i = query; i < query + count; ++i) found = std::max(found, last(i));
        return found;
    }
};

#endif
