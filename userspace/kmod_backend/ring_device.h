// /dev/adapath/<app>: opened exclusively, which is what makes a daemon the only one, and mapped.
#pragma once

#include <string>

#include "codegen/result.h"
#include "userspace/common/mapping.h"
#include "userspace/common/unique_fd.h"
#include "userspace/kmod_backend/ring_reader.h"

namespace adapath::kmod {

// EBUSY becomes "in use by another adapathd".
Result<UniqueFd> open_ring_device(const std::string& device);

class RingDevice {
public:
    static Result<RingDevice> map(UniqueFd fd, const std::string& device);
    [[nodiscard]] int fd() const { return fd_.get(); }
    RingReader& reader() { return reader_; }

private:
    RingDevice(UniqueFd fd, Mapping tails, Mapping data, RingReader reader)
        : fd_(std::move(fd)), tails_(std::move(tails)), data_(std::move(data)), reader_(std::move(reader)) {}
    UniqueFd fd_;
    Mapping tails_;
    Mapping data_;
    RingReader reader_;
};

}  // namespace adapath::kmod
