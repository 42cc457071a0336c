// Attention of rows of one token over the paged cache (the decode half of arXiv 2309.06180), each row and key/value head
// by one thread: all scores, their softmax, then the weighted sum of the values.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>

#include "heads.h"
#include "numbers.h"
#include "rows.h"

struct Span {
    int64_t first;  // cached positions [first, last)
    int64_t last;
};

template <typename Number>
inline void prefetch(const Number* numbers, int64_t count) {
    constexpr int64_t kLineNumbers = 64 / sizeof(Number);
    for (int64_t i = 0; i < count; i += kLineNumbers) __builtin_prefetch(numbers + i);
}

// What one thread works in: floats for one row's query heads of one key/value head.
struct Workspace {
    Workspace(int64_t longest, const Heads& heads)
        : scores(new float[heads.group() * longest]),
          queries(new float[heads.group() * heads.size]),
          sums(new float[heads.group() * heads.size]),
          block(new float[heads.block_size * heads.size]) {}

    std::unique_ptr<float[]> scores, queries, sums, block;
};

// The cached positions [first, last) that a row looks at, block by block. The next block is fetched while one is at
// work: blocks lie anywhere, which no processor foresees.
template <typename Number, typename Work>
inline void for_each_block(const Number* cache, int64_t which, const int32_t* blocks, int64_t head, Span span,
                           const Heads& heads, float* wide, Work work) {
    const int64_t size = heads.size;
    for (int64_t start = span.first; start < span.last;) {
        const int64_t block = start / heads.block_size, offset = start % heads.block_size;
        const int64_t count = std::min(heads.block_size - offset, span.last - start);
        const bool is_last = (block + 1) * heads.block_size >= span.last;
        for (int64_t position = 0; position < count; ++position) {
            if (!is_last) prefetch(cached(cache, heads, which, blocks[block + 1], head, position), size);
            const Number* numbers = cached(cache, heads, which, blocks[block], head, offset + position);
            for (int64_t i = 0; i < size; ++i) wide[position * size + i] = widen(numbers[i]);
        }
        work(start - span.first, count);
        start += count;
    }
}

// `Size` is D where the compiler knows it, which keeps a head's sums in registers; else 0.
template <typename Number, int64_t Size>
void attend_head(const Number* queries, const Number* cache, const int32_t* blocks, int64_t head, Span span,
                 const Scoring& scoring, Number* out, const Heads& heads, Workspace& workspace) {
    const int64_t size = Size ? Size : heads.size, group = heads.group(), length = span.last - span.first;
    float* wide = workspace.block.get();
    for (int64_t i = 0; i < group * size; ++i) workspace.queries[i] = widen(queries[i]);
    for_each_block(cache, 0, blocks, head, span, heads, wide, [&](int64_t start, int64_t count) {
        for (int64_t g = 0; g < group; ++g) {
            const float* query = workspace.queries.get() + g * size;
            float* scores = workspace.scores.get() + g * length + start;
            for (int64_t position = 0; position < count; ++position) {
                float score = 0.0f;
                for (int64_t i = 0; i < size; ++i) score += query[i] * wide[position * size + i];
                scores[position] = score;
            }
        }
    });
    for (int64_t g = 0; g < group; ++g) {
        float* scores = workspace.scores.get() + g * length;
        softmax_row(scores, length, scoring.bend(scores, length));
    }
    std::fill_n(workspace.sums.get(), group * size, 0.0f);
    for_each_block(cache, 1, blocks, head, span, heads, wide, [&](int64_t start, int64_t count) {
        for (int64_t g = 0; g < group; ++g) {
            const float* weights = workspace.scores.get() + g * length + start;
            float* sums = workspace.sums.get() + g * size;
            float registers[Size ? Size : 1];
            float* target = Size ? registers : sums;
            if (Size) std::copy_n(sums, size, registers);
            for (int64_t position = 0; position < count; ++position)
                for (int64_t i = 0; i < size; ++i) target[i] += weights[position] * wide[position * size + i];
            if (Size) std::copy_n(registers, size, sums);
        }
    });
    for (int64_t i = 0; i < group * size; ++i) out[i] = narrow<Number>(workspace.sums[i]);
}

// Rows of one token each, as tasks that any thread may take.
template <typename Number>
struct RowAttention {
    const Number* queries;  // rows [H, D], `query_stride` apart
    int64_t query_stride;
    const Number* cache;
    const int32_t* block_table;
    int64_t table_stride;
    const int32_t* lengths;  // of what is cached, a row
    int64_t window;          // 0: none
    Scoring scoring;
    Number* out;             // [rows, H, D]
    int64_t rows;
    Heads heads;

    int64_t num_tasks() const { return rows * heads.keys; }

    int64_t longest() const { return rows ? *std::max_element(lengths, lengths + rows) : 0; }

    bool is_worth_threads() const {
        return num_tasks() > 1 && num_tasks() * longest() * heads.size > kSerialWork;
    }

    void run(int64_t task, Workspace& workspace) const {
        const int64_t row = task / heads.keys, head = task % heads.keys, last = lengths[row];
        const int64_t first = window > 0 ? std::max<int64_t>(0, last - window) : 0, width = heads.group() * heads.size;
        const auto attend = heads.size == 32    ? attend_head<Number, 32>
                            : heads.size == 64  ? attend_head<Number, 64>
                            : heads.size == 128 ? attend_head<Number, 128>
                            : heads.size == 256 ? attend_head<Number, 256>
                                                : attend_head<Number, 0>;
        attend(queries + row * query_stride + head * width, cache, block_table + row * table_stride, head,
               {first, last}, scoring, out + task * width, heads, workspace);
    }
};

template <typename Number>
void attend_rows(const RowAttention<Number>& attention) {
#pragma omp parallel if (attention.is_worth_threads())
    {
        Workspace workspace(attention.longest(), attention.heads);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < attention.num_tasks(); ++task) attention.run(task, workspace);
    }
}
