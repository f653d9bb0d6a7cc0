// RAII for the file descriptors and shared mappings of BPF objects.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace adapath {

class BpfFd {
public:
    BpfFd() = default;
    explicit BpfFd(int fd) : fd_(fd) {}
    BpfFd(BpfFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    BpfFd& operator=(BpfFd&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~BpfFd() { reset(); }

    [[nodiscard]] int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset() {
        if (fd_ >= 0) close(fd_);
        fd_ = -1;
    }

private:
    int fd_ = -1;
};

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
