// What XLA calls on a CPU, shared out among XLA's own threads: products of few rows, keys and values on their way into
// the cache, and the attention of a step's rows of one token. The loops at the end of those headers are for torch.
//
// Letters: T tokens, R rows, H heads, K key/value heads, D head size, B blocks a row.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "attention.h"
#include "few_rows.h"
#include "heads.h"
#include "numbers.h"
#include "rotary.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

constexpr int kHastyLooks = 200;  // some 50 us
constexpr std::chrono::microseconds kPause{50};

// How far a piece of work is.
struct Progress {
    std::atomic<int64_t> next{0}, done{0};
};

// This thread and others that may help it with so many tasks.
int64_t workers_for(int64_t tasks, bool is_worth_threads, const ffi::ThreadPool& threads) {
    return is_worth_threads ? std::max<int64_t>(1, std::min(threads.num_threads(), tasks)) : 1;
}

// Tasks 0 to `count`, by workers 0 to `workers`, of which this thread is the first. `run` may not allocate: where that
// fails in a thread of XLA's, the process ends.
template <typename Run>
void side_by_side(int64_t count, int64_t workers, ffi::ThreadPool& threads, const Run& run) {
    const auto progress = std::make_shared<Progress>();
    const auto work = [progress, count, run](int64_t worker) {
        // A thread that begins late finds no task, and so reads nothing: the inputs may be gone.
        for (int64_t task = progress->next.fetch_add(1); task < count; task = progress->next.fetch_add(1)) {
            run(task, worker);
            progress->done.fetch_add(1);
        }
    };
    for (int64_t worker = 1; worker < workers; ++worker) threads.Schedule([work, worker] { work(worker); });
    work(0);
    // Only what others have begun is waited for: in a pool whose threads are all busy, none would begin.
    // The last task may be with a thread that another process took the CPU from, which no haste gives back.
    for (int looks = 0; progress->done.load() < count; ++looks) {
        if (looks < kHastyLooks)
            std::this_thread::yield();
        else
            std::this_thread::sleep_for(kPause);
    }
}

// Of a layer's cache [blocks, block size, 2K, D] with queries of so many heads.
Heads heads_of(int64_t num_heads, ffi::Span<const int64_t> cache) {
    const int64_t position_stride = cache[2] * cache[3];
    return {num_heads, cache[2] / 2, cache[3], cache[1], cache[3], cache[1] * position_stride, 2 * cache[3],
            position_stride};
}

template <typename Number, ffi::DataType Type>
ffi::Error attend_singles(ffi::ThreadPool threads, ffi::Buffer<Type> queries, ffi::Buffer<Type> cache,
                          ffi::Buffer<ffi::S32> row_starts, ffi::Buffer<ffi::S32> lengths,
                          ffi::Buffer<ffi::S32> block_table, ffi::ResultBuffer<Type> out, int64_t window, float scale,
                          float softcap) {
    const auto shape = queries.dimensions();  // [T, H, D]
    const int64_t width = shape[1] * shape[2];
    const Heads heads = heads_of(shape[1], cache.dimensions());
    const int32_t* starts = row_starts.typed_data();  // [R + 1]
    int64_t rows = 0;
    while (rows < lengths.dimensions()[0] && starts[rows + 1] - starts[rows] == 1) ++rows;
    auto* attended = reinterpret_cast<Number*>(out->untyped_data());  // [T, H, D]
    const RowAttention<Number> attention = {reinterpret_cast<const Number*>(queries.untyped_data()),
                                            width,
                                            reinterpret_cast<const Number*>(cache.untyped_data()),
                                            block_table.typed_data(),
                                            block_table.dimensions()[1],
                                            lengths.typed_data(),
                                            window,
                                            {scale, softcap},
                                            attended,
                                            rows,
                                            heads};
    const int64_t workers = workers_for(attention.num_tasks(), attention.is_worth_threads(), threads);
    const auto workspaces = std::make_shared<std::vector<Workspace>>();
    for (int64_t i = 0; i < workers; ++i) workspaces->emplace_back(attention.longest(), heads);
    side_by_side(attention.num_tasks(), workers, threads,
                 [=](int64_t task, int64_t worker) { attention.run(task, (*workspaces)[worker]); });
    // Of other rows, zeros: what lies there by chance may be NaN, which is slow, and would go on into the cache.
    std::fill_n(attended + rows * width, (shape[0] - rows) * width, Number{});
    return ffi::Error::Success();
}

// The cache takes its own place. `norms` are those of queries and keys, [2, D], or [0, D] for none.
template <typename Number, ffi::DataType Type>
ffi::Error rotate_and_store(ffi::ThreadPool threads, ffi::Buffer<Type> qkv, ffi::Buffer<Type> norms,
                            ffi::Buffer<Type> cosines, ffi::Buffer<Type> sines, ffi::Buffer<ffi::S32> kv_slots,
                            ffi::Buffer<Type>, ffi::ResultBuffer<Type> queries, ffi::ResultBuffer<Type> cache,
                            float epsilon) {
    const auto shape = queries->dimensions();  // [T, H, D]
    const auto numbers = [](const auto& buffer) { return reinterpret_cast<const Number*>(buffer.untyped_data()); };
    const Number* norm = norms.dimensions()[0] ? numbers(norms) : nullptr;
    const RotaryStep<Number> step = {numbers(qkv),
                                     reinterpret_cast<Number*>(queries->untyped_data()),
                                     shape[1] * shape[2],
                                     kv_slots.typed_data(),
                                     numbers(cosines),
                                     numbers(sines),
                                     norm,
                                     norm ? norm + shape[2] : nullptr,
                                     epsilon,
                                     reinterpret_cast<Number*>(cache->untyped_data()),
                                     shape[0],
                                     heads_of(shape[1], cache->dimensions())};
    side_by_side(step.tokens, workers_for(step.tokens, step.is_worth_threads(), threads), threads,
                 [step](int64_t token, int64_t) { step.run(token); });
    return ffi::Error::Success();
}

#ifdef __AVX512F__
ffi::Error multiply(ffi::ThreadPool threads, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> weight,
                    ffi::ResultBuffer<ffi::F32> y) {
    const FewRowsProduct product = {x.typed_data(),    weight.typed_data(),    y->typed_data(),
                                    x.dimensions()[0], weight.dimensions()[0], x.dimensions()[1]};
    const auto packed = std::make_shared<const FewRows>(product.x, product.rows, product.inputs);
    side_by_side(product.num_tasks(), workers_for(product.num_tasks(), product.is_worth_threads(), threads), threads,
                 [=](int64_t task, int64_t) { product.run(task, *packed); });
    return ffi::Error::Success();
}
#endif

template <ffi::DataType Type>
auto attending() {
    return ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<ffi::S32>>()
        .template Arg<ffi::Buffer<ffi::S32>>()
        .template Arg<ffi::Buffer<ffi::S32>>()
        .template Ret<ffi::Buffer<Type>>()
        .template Attr<int64_t>("window")
        .template Attr<float>("scale")
        .template Attr<float>("softcap");
}

template <ffi::DataType Type>
auto rotating() {
    return ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<Type>>()
        .template Arg<ffi::Buffer<ffi::S32>>()
        .template Arg<ffi::Buffer<Type>>()
        .template Ret<ffi::Buffer<Type>>()
        .template Ret<ffi::Buffer<Type>>()
        .template Attr<float>("epsilon");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(attend_singles_float32, (attend_singles<float, ffi::F32>), attending<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(attend_singles_bfloat16, (attend_singles<BFloat16, ffi::BF16>), attending<ffi::BF16>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(rotate_and_store_float32, (rotate_and_store<float, ffi::F32>), rotating<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(rotate_and_store_bfloat16, (rotate_and_store<BFloat16, ffi::BF16>),
                              rotating<ffi::BF16>());

#ifdef __AVX512F__
XLA_FFI_DEFINE_HANDLER_SYMBOL(multiply_float32, multiply,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
#endif
