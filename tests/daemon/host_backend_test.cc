// The backend `host` within one process: the file, slots and who holds them, rings, and what a killed daemon or reader
// leaves. Over processes: tests/qp/switch_test.cc.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/daemon/support.h"
#include "tests/qp/selectors.h"
#include "userspace/adapathd/host_backend.h"
#include "userspace/host/atomics.h"
#include "userspace/host/host_reader.h"

namespace adapath {
namespace {

using namespace std::chrono_literals;
using testing_support::selector_snapshot;

const HostApp kApp{"qp", ADP_QP_SCHEMA, sizeof(adp_qp_sample)};

class HostBackend : public ::testing::Test {
protected:
    Backend open() {
        Result<Backend> backend = open_host_backend({directory_ / "host", "no such group", kApp});
        EXPECT_TRUE(backend) << (backend ? "" : backend.error().message);
        return backend ? std::move(*backend) : Backend{};
    }
    std::string open_error(const HostApp& app = kApp) {
        const Result<Backend> backend = open_host_backend({directory_ / "host", "", app});
        return backend ? "" : backend.error().message;
    }
    std::unique_ptr<HostReader> join() {
        Result<std::unique_ptr<HostReader>> reader = HostReader::join(directory_ / "host", kApp, 1);
        EXPECT_TRUE(reader) << (reader ? "" : reader.error().message);
        return reader ? std::move(*reader) : nullptr;
    }
    std::unique_ptr<HostMemory> memory() {
        return std::move(HostMemory::open(directory_ / "host", kApp, true).value());
    }
    static uint32_t install(Backend& backend, uint32_t generation, bool activate = true) {
        const Result<uint32_t> slot = backend.installer->install(selector_snapshot(generation), generation, {});
        EXPECT_TRUE(slot) << (slot ? "" : slot.error().message);
        if (slot && activate) {
            EXPECT_TRUE(backend.installer->switch_to(*slot).ok());
        }
        return slot ? *slot : ADP_SLOT_NONE;
    }
    static size_t collect(Backend& backend, std::vector<uint32_t>* seqs = nullptr) {
        const Result<size_t> count = backend.collector->collect(0ms, [&](std::span<const std::byte> record) {
            adp_qp_sample sample;
            memcpy(&sample, record.data(), sizeof(sample));
            if (seqs != nullptr) seqs->push_back(sample.seq);
        });
        return count.value();
    }
    static bool put(HostReader& reader, uint32_t seq) {
        adp_qp_sample sample{};
        sample.seq = seq;
        return reader.put(std::as_bytes(std::span(&sample, 1)));
    }

    test::TemporaryDirectory directory_;
    const std::string path_ = HostMemory::path_in(directory_ / "host");
};

TEST_F(HostBackend, TheFileIsForUserAndGroupAndIsAdopted) {
    {
        const Backend backend = open();
        EXPECT_FALSE(backend.adopted);
        struct stat info{};
        ASSERT_EQ(stat(path_.c_str(), &info), 0);
        EXPECT_EQ(info.st_mode & 07777, 0660U);
        EXPECT_NE(open_error().find("another adapathd"), std::string::npos) << open_error();
        EXPECT_FALSE(remove_host_backend(directory_ / "host").ok()) << "while a daemon runs";
        EXPECT_TRUE(std::filesystem::exists(path_));
    }
    EXPECT_TRUE(open().adopted);
    EXPECT_TRUE(remove_host_backend(directory_ / "host").ok());
    EXPECT_FALSE(std::filesystem::exists(directory_ / "host"));
    EXPECT_FALSE(remove_host_backend(directory_ / "host").ok());
}

// Of memory that is not there when it is touched, the kernel says so by SIGBUS.
TEST_F(HostBackend, AFullFileSystemIsAnErrorAndKillsNobody) {
    if (geteuid() != 0) GTEST_SKIP() << "a small file system of its own needs root";
    bool mounted = false;
    std::thread([&] {
        // This thread's alone, and gone with it.
        const std::string at = directory_ / "host";
        std::filesystem::create_directory(at);
        const auto mount_small = [&](const char* size) {
            return mount("adapath-test", at.c_str(), "tmpfs", 0, size) == 0;
        };
        if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            !mount_small("size=256k"))
            return;
        mounted = true;
        EXPECT_NE(open_error().find("no room for"), std::string::npos) << open_error();
        EXPECT_FALSE(std::filesystem::exists(path_)) << "half a file";
        EXPECT_EQ(umount2(at.c_str(), MNT_DETACH), 0);
        // Room for what the daemon writes, and for one ring.
        ASSERT_TRUE(mount_small("size=1200k"));
        Backend backend = open();
        const auto reader = join();
        ASSERT_NE(reader, nullptr);
        for (uint32_t i = 0; i < ADP_HOST_RING; i++) EXPECT_TRUE(put(*reader, i));
        const Result<std::unique_ptr<HostReader>> second = HostReader::join(directory_ / "host", kApp, 2);
        ASSERT_FALSE(second) << "and none for another";
        EXPECT_NE(second.error().message.find(path_), std::string::npos) << second.error().message;
        EXPECT_NE(second.error().message.find("No space left"), std::string::npos) << second.error().message;
        EXPECT_EQ(collect(backend), size_t{ADP_HOST_RING});
    }).join();
    if (!mounted) GTEST_SKIP() << "can't mount a small file system here";
}

TEST_F(HostBackend, WhatIsNoFileOfThisVersionIsRefusedByBothSides) {
    {
        const Backend backend = open();
    }
    const size_t size = std::filesystem::file_size(path_);
    std::string good(sizeof(adp_host_head), '\0');
    std::ifstream(path_, std::ios::binary).read(good.data(), static_cast<std::streamsize>(good.size()));
    const auto expect_refused = [&](const std::string& head, size_t bytes, const std::string& word,
                                    const HostApp& app = kApp) {
        std::ofstream(path_, std::ios::binary) << head;
        std::filesystem::resize_file(path_, bytes);
        const std::string daemon = open_error(app);
        EXPECT_NE(daemon.find(word), std::string::npos) << daemon;
        EXPECT_NE(daemon.find(path_), std::string::npos) << daemon;
        const auto reader = HostReader::join(directory_ / "host", app, 1);
        ASSERT_FALSE(reader);
        EXPECT_EQ(reader.error().message, daemon);
    };
    expect_refused(good, size - 1, "it has to have");
    expect_refused(good, size + 1, "it has to have");
    expect_refused(good, 100, "it has to have");
    expect_refused("", 0, "not a shared memory file");
    expect_refused(std::string(5000, 'x'), 5000, "not a shared memory file");
    std::string other = good;
    other[8] = 9;
    expect_refused(other, size, "of version 9");
    other = good;
    other[12] = 99;
    expect_refused(other, size, "ABI 99");
    expect_refused(good, size, "of app 'qp', not 'select'", {"select", kApp.schema, kApp.record_bytes});
    expect_refused(good, size, "records of", {"qp", kApp.schema, kApp.record_bytes + 8});
    expect_refused(good, size, "of schema", {"qp", kApp.schema + 1, kApp.record_bytes});
    // What it says helps.
    EXPECT_TRUE(remove_host_backend(directory_ / "host").ok());
    EXPECT_FALSE(open().adopted);
}

TEST_F(HostBackend, AReaderSeesWhatIsActiveAsItWasInstalled) {
    Backend backend = open();
    const auto reader = join();
    EXPECT_FALSE(reader->hold().any());
    const uint32_t first = install(backend, 1);
    {
        const HostReader::Hold hold = reader->hold();
        ASSERT_TRUE(hold.any());
        EXPECT_EQ(hold.number(), first);
        const adp_host_slot& slot = hold.slot();
        EXPECT_EQ(slot.slot.generation, 1U);
        const Snapshot snapshot = selector_snapshot(1);
        const Result<ImageNetwork> network =
            parse_image_network({reinterpret_cast<const char*>(slot.network), slot.network_bytes});
        ASSERT_TRUE(network) << network.error().message;
        EXPECT_EQ(*network, snapshot.image->model.network);
        const Result<ImageQuantModel> model = unpack(*network, {slot.slot.params, slot.slot.params_bytes});
        ASSERT_TRUE(model) << model.error().message;
        EXPECT_EQ(pack(*model), pack(snapshot.image->model));
        EXPECT_EQ(backend.installer->slots()[first].bound_flows, 1U);
    }
    EXPECT_EQ(backend.installer->slots()[first].bound_flows, 0U);
    const uint32_t second = install(backend, 2);
    EXPECT_EQ(reader->hold().number(), second);
    EXPECT_EQ(backend.installer->standby_slot(), first);
    ASSERT_TRUE(backend.installer->switch_to(first).ok());
    EXPECT_EQ(reader->hold().number(), first);
    ASSERT_TRUE(backend.installer->deactivate().ok());
    EXPECT_FALSE(reader->hold().any());
    EXPECT_FALSE(backend.installer->set_canary(second, 0.5).ok());
    EXPECT_FALSE(backend.installer->install(test::random_snapshot(1), 3, {}));
}

TEST_F(HostBackend, NoSlotIsWrittenToWhileSomebodyHoldsIt) {
    Backend backend = open();
    std::vector<std::unique_ptr<HostReader>> readers;
    std::vector<std::unique_ptr<HostReader::Hold>> holds;
    // Every slot but one: the last install finds the active one, its standby and six that are held.
    for (uint32_t generation = 1; generation < ADP_SLOTS; generation++) {
        install(backend, generation);
        readers.push_back(join());
        holds.push_back(std::make_unique<HostReader::Hold>(readers.back()->hold()));
    }
    install(backend, ADP_SLOTS);
    const Result<uint32_t> none = backend.installer->install(selector_snapshot(20), 20, {});
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("pid " + std::to_string(getpid())), std::string::npos) << none.error().message;
    for (uint32_t i = 0; i < holds.size(); i++) {
        EXPECT_EQ(holds[i]->slot().slot.generation, i + 1);
        EXPECT_EQ(std::vector<uint8_t>(holds[i]->slot().slot.params,
                                       holds[i]->slot().slot.params + holds[i]->slot().slot.params_bytes),
                  pack(selector_snapshot(i + 1).image->model));
    }
    const uint32_t freed = holds.front()->number();
    holds.front().reset();
    ASSERT_TRUE(backend.installer->reclaim().ok());
    EXPECT_EQ(install(backend, 21), freed);
}

// Readers that look at all of a slot for as long as they hold it, against installs as fast as they go: what is seen is
// one snapshot from the first look to the last.
TEST_F(HostBackend, WhatReadersHoldNeverChangesUnderThem) {
    Backend backend = open();
    std::vector<Snapshot> snapshots;
    std::vector<std::vector<uint8_t>> params;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        snapshots.push_back(selector_snapshot(seed));
        params.push_back(pack(snapshots.back().image->model));
    }
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> looks{0};
    std::atomic<uint64_t> wrong{0};
    const auto look = [&](HostReader& reader) {
        for (uint32_t round = 0; !stop; round++) {
            const HostReader::Hold hold = reader.hold();
            if (!hold.any()) continue;
            const adp_slot& slot = hold.slot().slot;
            const uint32_t generation = load_acquire(slot.generation);
            const std::vector<uint8_t>& expected = params[generation % params.size()];
            // As a decision that is preempted on its way.
            if (round % 4 == 0) std::this_thread::sleep_for(500us);
            const bool same = generation != 0 && slot.params_bytes == expected.size() &&
                              memcmp(slot.params, expected.data(), expected.size()) == 0 &&
                              load_acquire(slot.generation) == generation;
            wrong += same ? 0 : 1;
            looks++;
        }
    };
    {
        std::vector<std::unique_ptr<HostReader>> readers;
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; i++) {
            readers.push_back(join());
            threads.emplace_back([&look, &reader = *readers.back()] { look(reader); });
        }
        for (uint32_t generation = 1; generation <= 1000; generation++) {
            const Result<uint32_t> slot =
                backend.installer->install(snapshots[generation % snapshots.size()], generation, {});
            if (!slot) {
                ADD_FAILURE() << slot.error().message;
                break;
            }
            EXPECT_TRUE(backend.installer->switch_to(*slot).ok());
        }
        stop = true;
        threads.clear();
    }
    EXPECT_GT(looks, 100U);
    EXPECT_EQ(wrong, 0U) << "of " << looks << " looks";
}

TEST_F(HostBackend, SamplesComeInOrderAndWhatDoesNotFitIsCounted) {
    Backend backend = open();
    auto reader = join();
    std::vector<uint32_t> seqs;
    for (uint32_t seq = 1; seq <= ADP_HOST_RING + 44; seq++) EXPECT_EQ(put(*reader, seq), seq <= ADP_HOST_RING);
    EXPECT_EQ(collect(backend, &seqs), size_t{ADP_HOST_RING});
    for (uint32_t i = 0; i < ADP_HOST_RING; i++) ASSERT_EQ(seqs[i], i + 1);
    EXPECT_EQ(backend.collector->stats().samples_lost, 44U);
    EXPECT_EQ(backend.collector->stats().samples, uint64_t{ADP_HOST_RING});
    // Round and round; what a reader put before it left is collected too.
    for (uint32_t seq = 0; seq < 1000; seq++) {
        ASSERT_TRUE(put(*reader, seq));
        if (seq % 100 == 99) {
            ASSERT_EQ(collect(backend), 100U);
        }
    }
    ASSERT_TRUE(put(*reader, 1));
    reader.reset();
    EXPECT_EQ(collect(backend), 1U);
    EXPECT_EQ(backend.collector->stats().flows_opened, 1U);
    EXPECT_EQ(backend.collector->stats().flows_closed, 1U);
}

TEST_F(HostBackend, ADamagedRingIsSkippedAndGoesOn) {
    Backend backend = open();
    const auto reader = join();
    ASSERT_TRUE(put(*reader, 1));
    const auto other = memory();
    for (const uint64_t head : {uint64_t{5000}, uint64_t{0} - 7}) {
        store_release(other->reader(0).head, head);
        EXPECT_EQ(collect(backend), 0U);
        ASSERT_TRUE(put(*reader, 2));
        EXPECT_EQ(collect(backend), 1U);
    }
    EXPECT_GE(backend.collector->stats().samples_lost, uint64_t{ADP_HOST_RING});
}

TEST_F(HostBackend, ADeadReaderHoldsNothing) {
    Backend backend = open();
    const uint32_t slot = install(backend, 1);
    const pid_t child = fork();
    if (child == 0) {
        auto reader = HostReader::join(directory_ / "host", kApp, 1);
        if (!reader || !(*reader)->hold().any()) _exit(1);
        const HostReader::Hold hold = (*reader)->hold();
        adp_qp_sample sample{};
        (*reader)->put(std::as_bytes(std::span(&sample, 1)));
        _exit(0);  // no destructor runs
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    EXPECT_EQ(backend.installer->slots()[slot].bound_flows, 1U);
    EXPECT_EQ(collect(backend), 1U) << "what it put is whole";
    EXPECT_EQ(backend.installer->slots()[slot].bound_flows, 0U);
    EXPECT_EQ(backend.collector->stats().flows_closed, 1U);
    EXPECT_EQ(memory()->reader(0).died, 1U);
    // Where no daemon has seen it, the next reader clears it away once there is no other entry.
    store_release(memory()->reader(0).live, 1U);
    store_release(memory()->reader(0).held, slot + 1);
    std::vector<std::unique_ptr<HostReader>> readers;
    for (uint32_t i = 0; i < ADP_HOST_READERS; i++) readers.push_back(join());
    EXPECT_EQ(memory()->reader(0).died, 2U);
    EXPECT_EQ(memory()->reader(0).held, 0U);
    const auto full = HostReader::join(directory_ / "host", kApp, 1);
    ASSERT_FALSE(full);
    EXPECT_NE(full.error().message.find("entries are in use"), std::string::npos) << full.error().message;
}

TEST_F(HostBackend, ADaemonThatWasKilledAnywhereIsFollowedByOneThatSeesWhatDecides) {
    uint32_t first = 0;
    uint32_t second = 0;
    uint32_t third = 0;
    {
        Backend backend = open();
        first = install(backend, 1);
        second = install(backend, 2);
        third = install(backend, 3, false);
    }
    {
        // Installed, not switched to: that is what a switch goes to.
        const Backend backend = open();
        EXPECT_EQ(backend.installer->active_slot(), second);
        EXPECT_EQ(backend.installer->standby_slot(), third);
        EXPECT_EQ(backend.installer->slots()[first].state, SlotState::draining);
    }
    // Killed between the store of the index and what the slots say.
    store_release(memory()->control_to_write().active, third);
    {
        const Backend backend = open();
        EXPECT_EQ(backend.installer->active_slot(), third);
        EXPECT_EQ(backend.installer->standby_slot(), second);
    }
    // Killed while a slot was written: its generation is not there yet.
    store_release(memory()->slot_to_write(second).slot.generation, 0U);
    {
        Backend backend = open();
        EXPECT_EQ(backend.installer->standby_slot(), ADP_SLOT_NONE);
        EXPECT_EQ(backend.installer->slots()[second].state, SlotState::free);
        ASSERT_TRUE(backend.installer->reclaim().ok());
        EXPECT_EQ(backend.installer->slots()[first].state, SlotState::free);
    }
    // An index of nothing decides nothing.
    store_release(memory()->control_to_write().active, second);
    EXPECT_EQ(open().installer->active_slot(), ADP_SLOT_NONE);
    store_release(memory()->control_to_write().active, 77U);
    EXPECT_FALSE(join()->hold().any());
    EXPECT_EQ(open().installer->active_slot(), ADP_SLOT_NONE);
    EXPECT_EQ(memory()->control().active, ADP_SLOT_NONE);
}

}  // namespace
}  // namespace adapath
