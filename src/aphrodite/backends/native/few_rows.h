// Products of up to 16 rows with a float weight as checkpoints have it, for processors with AVX512: y = x w^T, x [rows,
// inputs], w [outputs, inputs]. What bounds them is how fast the weight comes from memory: it is read once, in order.
#pragma once

#ifdef __AVX512F__

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <memory>

#include "lanes.h"

constexpr int64_t kFewRows = 16;        // whose sums fill half of the registers
constexpr int64_t kInputsAtOnce = 640;  // of so many rows, 40 KiB, which the first cache of most such processors holds
constexpr int64_t kOutputsAtOnce = 32;  // whose sums wait for the next inputs
constexpr int64_t kOutputsAhead = 4;    // that are fetched before their turn
constexpr int64_t kOutputsOfATask = 128;
constexpr int64_t kSerialWeight = 1 << 18;  // numbers below which waking the other threads costs more than it saves

// The sum of each of 16 registers.
inline __m512 sums_of(const __m512* numbers) {
    __m512 pairs[8], fours[4];
    for (int i = 0; i < 8; ++i)
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(numbers[2 * i], numbers[2 * i + 1]),
                                 _mm512_unpackhi_ps(numbers[2 * i], numbers[2 * i + 1]));
    for (int i = 0; i < 4; ++i) {
        const __m512d low = _mm512_castps_pd(pairs[2 * i]), high = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
                                 _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
    }
    const auto halves = [](__m512 a, __m512 b) {
        return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
    };
    return halves(halves(fours[0], fours[1]), halves(fours[2], fours[3]));
}

// What a thread reads again and again: up to 16 rows of x in pieces, [pieces, height, width]. A piece of a row lies
// next to those of the others, as rows that are 4 KiB apart would drive one another out of the cache.
struct FewRows {
    FewRows(const float* x, int64_t rows, int64_t inputs)
        : rows(rows), height(1), num_pieces((inputs + kInputsAtOnce - 1) / kInputsAtOnce) {
        while (height < rows) height *= 2;
        width = ((inputs + num_pieces - 1) / num_pieces + kLanes - 1) / kLanes * kLanes;
        numbers.reset(new Register[num_pieces * height * width / kLanes]());
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t i = 0; i < num_pieces; ++i)
                std::copy_n(x + row * inputs + i * width, std::min(width, inputs - i * width), piece(i) + row * width);
    }

    float* piece(int64_t index) const { return numbers[0].floats + index * height * width; }

    struct alignas(64) Register {
        float floats[kLanes];
    };

    int64_t rows;
    int64_t height;  // rows and zeros, to a power of two
    int64_t width;   // of a piece, for all to be about as wide
    int64_t num_pieces;
    std::unique_ptr<Register[]> numbers;
};

// Outputs [first, last) of y [rows, outputs].
template <int Height>
void multiply_few(const FewRows& x, const float* weight, float* y, int64_t outputs, int64_t inputs, int64_t first,
                  int64_t last) {
    __m512 waiting[kOutputsAtOnce][kFewRows];
    for (int64_t block = first; block < last; block += kOutputsAtOnce) {
        for (int64_t piece = 0; piece < x.num_pieces; ++piece) {
            const int64_t start = piece * x.width, count = std::min(x.width, inputs - start);
            const float* rows = x.piece(piece);
            for (int64_t output = block; output < std::min(block + kOutputsAtOnce, last); ++output) {
                const float* numbers = weight + output * inputs + start;
                __m512 sums[kFewRows] = {};
                if (piece > 0) std::copy_n(waiting[output - block], Height, sums);
                for (int64_t i = 0; i < count; i += kLanes) {
                    _mm_prefetch(reinterpret_cast<const char*>(numbers + i + kOutputsAhead * inputs), _MM_HINT_T0);
                    const __m512 loaded = _mm512_maskz_loadu_ps(first_lanes(count - i), numbers + i);
#pragma GCC unroll 16
                    for (int row = 0; row < Height; ++row)
                        sums[row] = _mm512_fmadd_ps(loaded, _mm512_load_ps(rows + row * x.width + i), sums[row]);
                }
                if (piece + 1 < x.num_pieces) {
                    std::copy_n(sums, Height, waiting[output - block]);
                } else {
                    float column[kFewRows];
                    _mm512_storeu_ps(column, sums_of(sums));
                    for (int64_t row = 0; row < x.rows; ++row) y[row * outputs + output] = column[row];
                }
            }
        }
    }
}

// Outputs as tasks that any thread may take.
struct FewRowsProduct {
    const float* x;       // [rows, inputs]
    const float* weight;  // [outputs, inputs]
    float* y;             // [rows, outputs]
    int64_t rows;
    int64_t outputs;
    int64_t inputs;

    int64_t num_tasks() const { return (outputs + kOutputsOfATask - 1) / kOutputsOfATask; }

    bool is_worth_threads() const { return num_tasks() > 1 && outputs * inputs > kSerialWeight; }

    void run(int64_t task, const FewRows& packed) const {
        const auto multiply = packed.height == 1   ? multiply_few<1>
                              : packed.height == 2 ? multiply_few<2>
                              : packed.height == 4 ? multiply_few<4>
                              : packed.height == 8 ? multiply_few<8>
                                                   : multiply_few<16>;
        const int64_t first = task * kOutputsOfATask;
        multiply(packed, weight, y, outputs, inputs, first, std::min(outputs, first + kOutputsOfATask));
    }
};

#endif
