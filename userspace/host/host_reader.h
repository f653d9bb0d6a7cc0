// One thread of a process that runs snapshots of backend `host`: takes what is active, one decision at a time, and puts
// samples. Wait-free but for a switch between its two looks at the index.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "codegen/result.h"
#include "userspace/host/host_memory.h"

namespace adapath {

class HostReader {
public:
    // `missing` is set where there is no file: no daemon has been here yet.
    static Result<std::unique_ptr<HostReader>> join(const std::string& directory, const HostApp& app, uint32_t camera,
                                                    bool* missing = nullptr);
    ~HostReader();
    HostReader(const HostReader&) = delete;
    HostReader& operator=(const HostReader&) = delete;

    // What is active, held as long as this lives: nobody writes to the slot meanwhile. One at a time.
    class Hold {
    public:
        Hold(Hold&& other) noexcept;
        Hold& operator=(Hold&&) = delete;
        ~Hold();
        [[nodiscard]] bool any() const { return slot_ != ADP_SLOT_NONE; }
        [[nodiscard]] uint32_t number() const { return slot_; }
        [[nodiscard]] const adp_host_slot& slot() const;

    private:
        friend class HostReader;
        Hold(HostReader& reader, uint32_t slot) : reader_(&reader), slot_(slot) {}
        HostReader* reader_;
        uint32_t slot_;
    };
    [[nodiscard]] Hold hold();

    // False, and counted, where the ring is full.
    bool put(std::span<const std::byte> record);
    void count_decision();
    void count_fallback(bool program_missing);

    // This reader's number, unlike that of any other that joined this file.
    [[nodiscard]] uint64_t flow() const { return flow_; }
    [[nodiscard]] bool replaced() const { return memory_->replaced(); }

private:
    HostReader(std::unique_ptr<HostMemory> memory, uint32_t number) : memory_(std::move(memory)), number_(number) {}
    [[nodiscard]] adp_host_reader& entry() { return memory_->reader(number_); }

    std::unique_ptr<HostMemory> memory_;
    uint32_t number_;
    uint64_t flow_ = 0;
};

}  // namespace adapath
