// The answering half of backend `userspace`: runs the float model for each question that the kernel side puts into the
// ring and writes the output where the flow's next ACK looks for it (include/adapath/cc_answers.h).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "models/float_runner.h"
#include "userspace/adapathd/backend.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

// Knows the float model of each generation that may be asked for. Safe to use from several threads.
class Answerer {
public:
    // `answers`: ADP_CC_ANSWERS words, shared with the kernel; they outlive this.
    explicit Answerer(uint64_t* answers) : answers_(answers) {}

    // The snapshot's float reference decides as this generation. Refused where the snapshot carries none.
    Status learn(uint32_t generation, const Snapshot& snapshot);
    // Looks at one record of the ring: answers a question, notes an applied answer.
    void see(std::span<const std::byte> record);
    [[nodiscard]] AskingStats stats() const;

private:
    struct Open {
        uint32_t seq;
        uint64_t asked_us;
    };
    mutable std::mutex mutex_;
    uint64_t* const answers_;
    std::unordered_map<uint32_t, FloatRunner> runners_;
    std::unordered_map<uint64_t, Open> open_;  // by flow
    AskingStats stats_;
};

// A collector whose ring is read by a thread of its own as soon as there is a question in it; what else is read waits
// for collect(). `ring` is the ring's descriptor, `collector` reads it; both are the backend's own.
Result<std::unique_ptr<Collector>> answering_collector(std::unique_ptr<Collector> collector, int ring,
                                                       std::shared_ptr<Answerer> answerer, size_t wakeup_bytes);

}  // namespace adapath
