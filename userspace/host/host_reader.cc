// See host_reader.h. The memory orders' pairs are in include/adapath/host.h.
#include "userspace/host/host_reader.h"

#include <fmt/format.h>
#include <string.h>
#include <unistd.h>

#include <utility>

#include "userspace/host/atomics.h"

namespace adapath {
namespace {

// Its lock is held: the entry is this reader's until the lock goes.
void take_entry(HostMemory& memory, uint32_t number, uint32_t camera, uint64_t* flow) {
    memory.clear_dead(number);
    adp_host_reader& entry = memory.reader(number);
    *flow = __atomic_add_fetch(&memory.shared().flows, uint64_t{1}, __ATOMIC_RELAXED);
    store_relaxed(entry.pid, static_cast<uint32_t>(getpid()));
    store_relaxed(entry.camera, camera);
    store_relaxed(entry.flow, *flow);
    count(entry.opened);
    store_release(entry.live, 1U);
}

}  // namespace

Result<std::unique_ptr<HostReader>> HostReader::join(const std::string& directory, const HostApp& app, uint32_t camera,
                                                     bool* missing) {
    Result<std::unique_ptr<HostMemory>> opened = HostMemory::open(directory, app, false, missing);
    if (!opened) {
        return opened.error();
    }
    HostMemory& memory = **opened;
    // Entries that were left in order first: what a dead reader left is the daemon's to see, as long as there is room.
    for (const bool dead_too : {false, true}) {
        for (uint32_t i = 0; i < ADP_HOST_READERS; i++) {
            if (!dead_too && load_relaxed(memory.reader(i).live) != 0) {
                continue;
            }
            Result<bool> mine = memory.lock(HostMemory::reader_lock(i));
            if (!mine) {
                return mine.error();
            }
            if (!*mine) {
                continue;
            }
            if (Status room = memory.reserve_ring(i); !room) {
                return room.error();  // the lock goes with the descriptor
            }
            std::unique_ptr<HostReader> reader(new HostReader(std::move(*opened), i));
            take_entry(*reader->memory_, i, camera, &reader->flow_);
            return reader;
        }
    }
    return Error{fmt::format("{}: all {} readers' entries are in use: run fewer cameras on one directory",
                             HostMemory::path_in(directory), ADP_HOST_READERS)};
}

HostReader::~HostReader() {
    if (memory_ == nullptr) {
        return;
    }
    store_release(entry().held, 0U);
    count(entry().closed);
    store_release(entry().live, 0U);
    // The lock goes with the descriptor.
}

HostReader::Hold HostReader::hold() {
    const adp_control& control = memory_->control();
    for (;;) {
        const uint32_t slot = load_acquire(control.active);
        if (slot >= ADP_SLOTS) {
            return {*this, ADP_SLOT_NONE};
        }
        store_relaxed(entry().held, slot + 1);
        fence_seq_cst();
        if (load_acquire(control.active) == slot) {
            return {*this, slot};
        }
        store_release(entry().held, 0U);
    }
}

HostReader::Hold::Hold(Hold&& other) noexcept
    : reader_(std::exchange(other.reader_, nullptr)), slot_(std::exchange(other.slot_, ADP_SLOT_NONE)) {}

HostReader::Hold::~Hold() {
    if (reader_ != nullptr && slot_ != ADP_SLOT_NONE) {
        store_release(reader_->entry().held, 0U);
    }
}

const adp_host_slot& HostReader::Hold::slot() const { return reader_->memory_->slot(slot_); }

bool HostReader::put(std::span<const std::byte> record) {
    adp_host_reader& mine = entry();
    const uint64_t head = load_relaxed(mine.head);
    // Acquire, against the daemon's release after its copy: the record that was there has been read.
    if (head - load_acquire(mine.tail) >= ADP_HOST_RING) {
        count(mine.lost);
        return false;
    }
    memcpy(memory_->record(number_, head), record.data(), record.size());
    // Release, against the daemon's acquire: who sees the count sees the record. A reader that dies before this line
    // has put nothing.
    store_release(mine.head, head + 1);
    return true;
}

void HostReader::count_decision() { count(entry().decisions); }

void HostReader::count_fallback(bool program_missing) {
    count(entry().fallbacks);
    if (program_missing) {
        count(entry().program_missing);
    }
}

}  // namespace adapath
