// What XLA calls on a CPU: attention of a step's rows of one token, shared out among XLA's own threads.
//
// Letters: T tokens, R rows, H heads, K key/value heads, D head size, B blocks a row.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "attention.h"
#include "heads.h"
#include "numbers.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

// How far a piece of work is.
struct Progress {
    std::atomic<int64_t> next{0}, done{0};
};

template <typename Number>
void attend_side_by_side(const RowAttention<Number>& attention, ffi::ThreadPool& threads) {
    const auto progress = std::make_shared<Progress>();
    const int64_t count = attention.num_tasks(), longest = attention.longest();
    // A thread may begin when all is done, and what `attention` points to is gone: it then finds no task.
    const auto work = [progress, count, longest, attention] {
        Workspace workspace(longest, attention.heads);
        for (int64_t task; (task = progress->next.fetch_add(1)) < count; progress->done.fetch_add(1))
            attention.run(task, workspace);
    };
    const int64_t others = attention.is_worth_threads() ? std::min(threads.num_threads(), count) - 1 : 0;
    for (int64_t i = 0; i < others; ++i) {
        auto one = work;
        threads.Schedule(std::move(one));
    }
    work();
    // Only what others have begun is waited for: in a pool whose threads are all busy, none would begin.
    while (progress->done.load() < count) std::this_thread::yield();
}

template <typename Number, ffi::DataType Type>
ffi::Error attend_singles(ffi::ThreadPool threads, ffi::Buffer<Type> queries, ffi::Buffer<Type> cache,
                          ffi::Buffer<ffi::S32> row_starts, ffi::Buffer<ffi::S32> lengths,
                          ffi::Buffer<ffi::S32> block_table, ffi::ResultBuffer<Type> out, int64_t window) {
    const auto shape = queries.dimensions(), cache_shape = cache.dimensions();  // [T, H, D], [blocks, block size, 2K, D]
    const int64_t size = shape[2], position_stride = cache_shape[2] * cache_shape[3];
    const Heads heads = {shape[1],
                         cache_shape[2] / 2,
                         size,
                         cache_shape[1],
                         cache_shape[3],
                         cache_shape[1] * position_stride,
                         2 * cache_shape[3],
                         position_stride};
    const int32_t* starts = row_starts.typed_data();  // [R + 1]
    int64_t rows = 0;
    while (rows < lengths.dimensions()[0] && starts[rows + 1] - starts[rows] == 1) ++rows;
    auto* attended = reinterpret_cast<Number*>(out->untyped_data());  // [T, H, D]
    attend_side_by_side(
        RowAttention<Number>{reinterpret_cast<const Number*>(queries.untyped_data()), shape[1] * size,
                             reinterpret_cast<const Number*>(cache.untyped_data()), block_table.typed_data(),
                             block_table.dimensions()[1], lengths.typed_data(), window, attended, rows, heads},
        threads);
    std::fill_n(attended + rows * shape[1] * size, (shape[0] - rows) * shape[1] * size, Number{});
    return ffi::Error::Success();
}

template <ffi::DataType Type>
auto binding() {
    return ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<ffi::S32>>()
        .template Arg<ffi::Buffer<ffi::S32>>()
        .template Arg<ffi::Buffer<ffi::S32>>()
        .template Ret<ffi::Buffer<Type>>()
        .template Attr<int64_t>("window");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(attend_singles_float32, (attend_singles<float, ffi::F32>), binding<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(attend_singles_bfloat16, (attend_singles<BFloat16, ffi::BF16>), binding<ffi::BF16>());
