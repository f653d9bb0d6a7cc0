// Atomic access to words of memory that other processes map too. std::atomic_ref takes no const, and half of the
// mapping is read-only here.
#pragma once

namespace adapath {

template <typename T>
T load_relaxed(const T& word) {
    return __atomic_load_n(&word, __ATOMIC_RELAXED);
}
template <typename T>
T load_acquire(const T& word) {
    return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}
template <typename T>
void store_relaxed(T& word, T value) {
    __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}
template <typename T>
void store_release(T& word, T value) {
    __atomic_store_n(&word, value, __ATOMIC_RELEASE);
}
inline void fence_seq_cst() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// Of words that one process writes: readable by others while it counts.
template <typename T>
void count(T& word) {
    store_relaxed(word, load_relaxed(word) + 1);
}

}  // namespace adapath
