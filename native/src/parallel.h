// Work shared among threads. For plain files only (isa.h): it has inline functions of the standard library.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace gramian {

// Runs `work` on some threads, which each take tasks 0..count-1 by `take()` until that gives `count` or more.
template <class Work>
void in_parallel(long long count, int threads, const Work &work) {
    std::atomic<long long> next{0};
    std::exception_ptr failed;
    std::mutex lock;
    const auto worker = [&] {
        try {
            work([&] { return next++; });
        } catch (...) {
            const std::lock_guard<std::mutex> guard(lock);
            failed = std::current_exception();
            next = count;
        }
    };
    std::vector<std::thread> others;
    for (long long i = 1; i < std::min<long long>(threads, count); ++i) others.emplace_back(worker);
    worker();
    for (auto &thread : others) thread.join();
    if (failed) std::rethrow_exception(failed);
}

}  // namespace gramian
