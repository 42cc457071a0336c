// Where a layer's keys and values lie in its paged cache.
#pragma once

#include <cstdint>

constexpr int64_t kSerialWork = 1 << 15;  // numbers below which waking the other threads costs more than it saves

struct Heads {
    int64_t queries;     // H
    int64_t keys;        // K
    int64_t size;        // D
    int64_t block_size;  // positions of a block
    // Numbers from one to the next:
    int64_t which_stride;  // from keys to values
    int64_t block_stride;
    int64_t head_stride;
    int64_t position_stride;

    int64_t group() const { return queries / keys; }
};

// The numbers [D] of a position's key (`which` 0) or value (1).
template <typename Number>
inline Number* cached(Number* cache, const Heads& heads, int64_t which, int64_t block, int64_t head, int64_t offset) {
    return cache + which * heads.which_stride + block * heads.block_stride + head * heads.head_stride +
           offset * heads.position_stride;
}
