// Registers of 16 floats, on processors with AVX512.
#pragma once

#ifdef __AVX512F__

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

constexpr int64_t kLanes = 16;

// The first `count` lanes, all of them if there are fewer.
inline __mmask16 first_lanes(int64_t count) {
    return static_cast<__mmask16>(count >= kLanes ? 0xFFFF : (1u << std::max<int64_t>(count, 0)) - 1);
}

#endif
