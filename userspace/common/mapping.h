// A shared mapping that unmaps itself.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <utility>

namespace adapath {

// Memory that userspace and kernel both see: an array map's, or a device's.
class Mapping {
public:
    Mapping() = default;
    Mapping(void* address, size_t bytes) : address_(address), bytes_(bytes) {}
    Mapping(Mapping&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Mapping() {
        if (address_ != nullptr) munmap(address_, bytes_);
    }

    template <typename T>
    [[nodiscard]] T* as() const {
        return static_cast<T*>(address_);
    }
    [[nodiscard]] size_t bytes() const { return bytes_; }

private:
    void* address_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace adapath
