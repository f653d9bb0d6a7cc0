// RAII for the shared mappings of BPF maps.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <utility>

namespace adapath {

// A mapping of an array map: userspace and kernel see the same memory.
class MapMapping {
public:
    MapMapping() = default;
    MapMapping(void* address, size_t bytes) : address_(address), bytes_(bytes) {}
    MapMapping(MapMapping&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)), bytes_(other.bytes_) {}
    MapMapping& operator=(MapMapping&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~MapMapping() {
        if (address_ != nullptr) munmap(address_, bytes_);
    }

    template <typename T>
    [[nodiscard]] T* as() const {
        return static_cast<T*>(address_);
    }

private:
    void* address_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace adapath
