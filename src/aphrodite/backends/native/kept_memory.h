// Memory that a thread keeps from call to call.
#pragma once

#include <cstdint>
#include <memory>

// Room for so many items, one such room a type: fresh pages would cost as much time as the work in them. What lay there
// before is still there.
template <typename Item>
Item* kept_memory(int64_t count) {
    static thread_local std::unique_ptr<Item[]> memory;
    static thread_local int64_t size = 0;
    if (size < count) {
        memory.reset(new Item[count]);
        size = count;
    }
    return memory.get();
}
