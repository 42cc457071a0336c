// Where a layer's keys and values lie: its cache is [2 (keys, values), blocks, K, block size, D].
#pragma once

#include <cstdint>

constexpr int64_t kSerialWork = 1 << 14;  // numbers below which waking the other threads costs more than it saves

struct Heads {
    int64_t queries;     // H
    int64_t keys;        // K
    int64_t size;        // D
    int64_t num_blocks;  // of the cache
    int64_t block_size;

    int64_t group() const { return queries / keys; }
};

template <typename Number>
inline Number* head_block(Number* cache, const Heads& heads, int64_t which, int64_t block, int64_t head) {
    return cache + ((which * heads.num_blocks + block) * heads.keys + head) * heads.block_size * heads.size;
}
