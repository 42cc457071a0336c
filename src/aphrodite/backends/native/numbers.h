// float and bfloat16 numbers in memory, float in registers; and e^x.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

struct BFloat16 {
    uint16_t bits;
};

inline float widen(float x) { return x; }

inline float widen(BFloat16 x) {
    const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

template <typename Number>
inline Number narrow(float x);

template <>
inline float narrow<float>(float x) {
    return x;
}

template <>
inline BFloat16 narrow<BFloat16>(float x) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    const bool is_nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    return {static_cast<uint16_t>(is_nan ? 0x7FC0 : rounded)};
}

// e^x to 5 units in the last place, in operations that compilers turn into vector instructions: a power of two times a
// polynomial in what is left, with the coefficients of Cephes. What is left is taken in one step, not in Cephes' two,
// which sums that may be reordered undo; a processor without fused multiply-add loses a digit or two there.
inline float exponential(float x) {
    const float clamped = std::min(std::max(x, -87.3f), 88.3f);
    const float power = std::floor(clamped * 1.44269504f + 0.5f);
    const float r = clamped - power * 0.69314718f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const float mantissa = p * r * r + r + 1.0f;
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(power) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return x < -87.3f ? 0.0f : mantissa * scale;
}
