// Programs of image networks, compiled once a process on a thread of their own, so that no encoder waits for a
// compiler. A build without codegen's heavy half (ADAPATH_LIGHT) has no programs: the interpreter decides.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "codegen/image.h"

namespace adapath {

// A program for one thread. `params`: a pack()ed block of its network.
using ImageRun =
    std::function<Status(std::span<const uint8_t> params, const ImageCodes& picture, std::vector<int32_t>& out)>;

class ProgramCache {
public:
    ProgramCache();
    ~ProgramCache();

    // Can programs be compiled here at all?
    static bool has_compiler();

    // The network's program for the calling thread, once it is compiled and was found to agree with the interpreter on
    // this model, bit for bit. Empty until then: the first call begins it.
    ImageRun find(const ImageQuantModel& model);
    // Why the network has none and will have none; empty where it has or may yet.
    [[nodiscard]] std::string failure(const ImageNetwork& network) const;

private:
    struct Entry;

    mutable std::mutex mutex_;
    std::vector<std::shared_ptr<Entry>> entries_;  // the newest last
};

}  // namespace adapath
