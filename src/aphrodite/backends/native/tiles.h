// Products of several or many rows with a bfloat16 weight in the layout of linear.h, for processors with AMX: y = x w^T
// + bias. Its registers are tiles: 16 rows of x times 16 outputs, 32 inputs an instruction.
//
// x is copied into tiles first, as rows that lie far apart would drive one another out of the caches. A thread takes a
// few panels of outputs and adds up a stretch of the inputs at a time: of a panel that stretch stays in the first cache
// while all rows pass by, and the rows stay in the second from one panel to the next.
#pragma once

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__) && defined(__linux__)
#define APHRODITE_TILES

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "kept_memory.h"
#include "linear.h"

// Measured on a Xeon with 48 KiB of first cache and 2 MiB of second.
constexpr int64_t kTileSide = 16;        // rows of a tile, and pairs of numbers in each
constexpr int64_t kFewestTiledRows = 5;  // with fewer, linear.h is as fast
constexpr int64_t kStretch = 18;         // tiles of 16 outputs; a panel's are 36 KiB
constexpr int64_t kPanelsAtOnce = 8;
constexpr int64_t kTilesAhead = 2;       // of a weight that comes from memory

struct alignas(64) Tile {
    Pair pairs[kTileSide][kTileSide];
};

// What the processor is told of its eight tiles: all have 16 rows of 64 bytes.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline const TileShapes kTileShapes;  // in memory as a whole: the compiler does not know that all of it is read

// Linux gives a process the tiles when it asks for them.
inline bool has_tiles() {
    constexpr int kRequestPermission = 0x1023, kTileData = 18;
    static const bool is_granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    return is_granted;
}

// While it lives, its thread's tiles have those shapes.
struct TilesInUse {
    TilesInUse() { _tile_loadconfig(&kTileShapes); }
    ~TilesInUse() { _tile_release(); }
};

inline bool takes_tiles(int64_t rows, int64_t inputs) {
    return rows >= kFewestTiledRows && inputs % (2 * kTileSide) == 0 && has_tiles();
}

// Where a block's first tile of rows lies, and its second; all counts are of pairs.
struct BlockOfRows {
    const Pair *top, *bottom;
    int64_t step;    // from a step's tile to the next
    int64_t stride;  // from a row to the next
};

// x in tiles, [blocks, steps, Halves]: a block has one or two tiles of rows, the last filled up with zeros.
template <int Halves>
struct TiledRows {
    static constexpr int64_t kHeight = Halves * kTileSide;

    TiledRows(const Pair* x, int64_t rows, int64_t steps)
        : x(x), rows(rows), steps(steps), blocks((rows + kHeight - 1) / kHeight),
          tiles(kept_memory<Tile>(blocks * steps * Halves)) {}

    void fill(int64_t block) const {
        for (int64_t row = block * kHeight; row < (block + 1) * kHeight; ++row)
            for (int64_t step = 0; step < steps; ++step)
                _mm512_store_si512(
                    at(block, step)[row / kTileSide % Halves].pairs[row % kTileSide],
                    row < rows ? _mm512_loadu_si512(x + (row * steps + step) * kTileSide) : _mm512_setzero_si512());
    }

    Tile* at(int64_t block, int64_t step) const { return tiles + (block * steps + step) * Halves; }

    BlockOfRows rows_of(int64_t block, int64_t step) const {
        const Tile* first = at(block, step);
        return {first[0].pairs[0], first[Halves - 1].pairs[0], Halves * kTileSide * kTileSide, kTileSide};
    }

    const Pair* x;
    int64_t rows, steps, blocks;
    Tile* tiles;
};

struct alignas(64) Sums {
    float rows[kTileSide][kPanelOutputs];
};

// Adds steps [first, last) of a block of rows, which begins there, times a panel to sums [16 * Halves, 32] that lie
// `stride` numbers apart; step 0 begins them.
template <int Halves>
void add_tiles(const BlockOfRows& rows, const Panel& panel, int64_t first, int64_t last, bool is_in_memory,
               float* sums, int64_t stride) {
    constexpr int64_t kTile = kTileSide * kTileSide, kLine = kTileSide * sizeof(Pair);
    asm volatile("" ::: "memory");  // loads of tiles do not tell the compiler that they read what was written before
    const int64_t sum_bytes = stride * sizeof(float), row_bytes = rows.stride * sizeof(Pair);
    float *top = sums, *bottom = sums + (Halves - 1) * kTileSide * stride;
    if (first == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, top, sum_bytes);
        _tile_loadd(1, top + kTileSide, sum_bytes);
        _tile_loadd(2, bottom, sum_bytes);
        _tile_loadd(3, bottom + kTileSide, sum_bytes);
    }
    for (int64_t step = first; step < last; ++step) {
        const Pair *left = panel.weights[0] + step * kTile, *right = panel.weights[1] + step * kTile;
        for (int64_t pair = 0; is_in_memory && pair < kTile; pair += kTileSide) {
            _mm_prefetch(reinterpret_cast<const char*>(left + kTilesAhead * kTile + pair), _MM_HINT_T0);
            _mm_prefetch(reinterpret_cast<const char*>(right + kTilesAhead * kTile + pair), _MM_HINT_T0);
        }
        const int64_t here = (step - first) * rows.step;
        _tile_stream_loadd(4, rows.top + here, row_bytes);  // rows pass by, and leave the panel in the cache
        _tile_loadd(6, left, kLine);
        _tile_loadd(7, right, kLine);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (Halves == 1) continue;
        _tile_stream_loadd(5, rows.bottom + here, row_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    if (Halves == 2) {
        _tile_stored(2, bottom, sum_bytes);
        _tile_stored(3, bottom + kTileSide, sum_bytes);
    }
    _tile_stored(0, top, sum_bytes);
    _tile_stored(1, top + kTileSide, sum_bytes);
}

// Of an output row its part in a panel: 32 sums and the bias.
inline void store_sums(const float* sums, const Panel& panel, BFloat16* y) {
    const __m512 left = _mm512_add_ps(_mm512_load_ps(sums), start_of(panel, 0));
    const __m512 right = _mm512_add_ps(_mm512_load_ps(sums + kLanes), start_of(panel, 1));
    _mm512_mask_storeu_epi16(y, _mm512_kunpackw(panel.masks[1], panel.masks[0]),
                             reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(right, left)));
}

template <int Halves>
void multiply_tiles(const Pair* x, const Pair* weight, const float* bias, BFloat16* y, int64_t rows, int64_t outputs,
                    int64_t inputs) {
    const int64_t pairs = inputs / 2, num_panels = (outputs + kPanelOutputs - 1) / kPanelOutputs;
    const TiledRows<Halves> tiled(x, rows, pairs / kTileSide);
    const int64_t num_stretches = tiled.blocks > 1 ? (tiled.steps + kStretch - 1) / kStretch : 1;
    const int64_t num_sums = tiled.blocks * Halves;  // a panel
#pragma omp parallel if (rows * outputs * inputs > kSerialProducts)
    {
        const TilesInUse tiles_in_use;
#pragma omp for schedule(static)
        for (int64_t block = 0; block < tiled.blocks; ++block) tiled.fill(block);
        Sums* const sums = kept_memory<Sums>(kPanelsAtOnce * num_sums);
#pragma omp for schedule(dynamic)
        for (int64_t group = 0; group < num_panels; group += kPanelsAtOnce) {
            const int64_t num_here = std::min(kPanelsAtOnce, num_panels - group);
            Panel panels[kPanelsAtOnce];
            for (int64_t i = 0; i < num_here; ++i) panels[i] = panel_of(weight, bias, group + i, outputs, pairs);
            for (int64_t stretch = 0; stretch < num_stretches; ++stretch) {
                const int64_t first = stretch * tiled.steps / num_stretches;
                const int64_t last = (stretch + 1) * tiled.steps / num_stretches;
                for (int64_t i = 0; i < num_here; ++i)
                    for (int64_t block = 0; block < tiled.blocks; ++block)
                        add_tiles<Halves>(tiled.rows_of(block, first), panels[i], first, last, block == 0,
                                          sums[i * num_sums + block * Halves].rows[0], kPanelOutputs);
            }
            for (int64_t row = 0; row < rows; ++row)
                for (int64_t i = 0; i < num_here; ++i)
                    store_sums(sums[i * num_sums + row / kTileSide].rows[row % kTileSide], panels[i],
                               y + row * outputs + (group + i) * kPanelOutputs);
        }
    }
}

inline void multiply_tiled(const Pair* x, const Pair* weight, const float* bias, BFloat16* y, int64_t rows,
                           int64_t outputs, int64_t inputs) {
    if (rows <= kTileSide) return multiply_tiles<1>(x, weight, bias, y, rows, outputs, inputs);
    const int64_t num_parts = (rows + kRowsAtOnce - 1) / kRowsAtOnce, part = (rows + num_parts - 1) / num_parts;
    for (int64_t first = 0; first < rows; first += part)
        multiply_tiles<2>(x + first * inputs / 2, weight, bias, y + first * outputs, std::min(part, rows - first),
                          outputs, inputs);
}

#endif
