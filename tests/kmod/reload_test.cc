// All modules loaded and unloaded a hundred times with a snapshot in them, active or cleared: each goes as soon as
// nothing uses it, and nothing is lost on the way. Only for a VM (tests/vm).
#include <sys/sysinfo.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <adapath/cc.h>

#include "tests/codegen/clang_fixtures.h"
#include "tests/kmod/driver.h"

namespace adapath::kmod_test {
namespace {

constexpr int kRounds = 100;
constexpr int kWarm = 10;

// What the kernel holds for itself and does not give back by itself: slab (large kmalloc() included), vmalloc, per-CPU
// memory. Free memory would not do: it moves by tens of megabytes with nothing lost.
uint64_t kernel_kb() {
    std::ifstream file("/proc/meminfo");
    std::string key;
    uint64_t value = 0;
    uint64_t sum = 0;
    while (file >> key >> value) {
        if (key == "SUnreclaim:" || key == "VmallocUsed:" || key == "Percpu:") {
            sum += value;
        }
        file.ignore(64, '\n');
    }
    return sum;
}

// What still uses it goes with a grace period and a worker.
Status unload_soon(const std::string& name) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (;;) {
        Status unloaded = unload_module(name);
        if (unloaded || std::chrono::steady_clock::now() > end) {
            return unloaded;
        }
        std::this_thread::yield();
    }
}

TEST(Reload, AHundredTimesWithASnapshotInThem) {
    const char* directory = std::getenv("ADAPATH_MODULES");
    ASSERT_NE(directory, nullptr) << "ADAPATH_MODULES is not set: run this in a VM, by tests/vm/run.sh";
    std::vector<std::string> programs = generated_modules();
    std::mt19937_64 random(1);
    const auto file_of = [&](const std::string& name) { return fmt::format("{}/{}.ko", directory, name); };
    uint64_t warm_kb = 0;
    QuantModel model;
    InstallRequest request;
    uint64_t generated_runs = 0;
    for (int round = 1; round <= kRounds; ++round) {
        SCOPED_TRACE(fmt::format("round {}", round));
        std::vector<std::string> load{"adapath", "adapath_cc"};
        load.insert(load.end(), programs.begin(), programs.end());
        for (const std::string& name : load) {
            const Status loaded = load_module(file_of(name));
            ASSERT_TRUE(loaded) << loaded.error().message;
        }
        Result<Genl> genl = Genl::open();
        ASSERT_TRUE(genl) << genl.error().message;
        if (round == 1) {
            // The program of cc's own shape, where one was built; the others are loaded for nothing, from now on not.
            Network network = network_between(ADP_CC_INPUTS, ADP_CC_OUTPUTS, random);
            request.program_hash = 1;
            uint64_t hash = 1;
            for (const std::string& name : programs) {
                const std::optional<Network> of = program_network(*genl, hash_of_generated(name));
                ASSERT_TRUE(of) << name;
                if (of->input_count() == ADP_CC_INPUTS && of->output_count() == ADP_CC_OUTPUTS) {
                    network = *of;
                    hash = hash_of_generated(name);
                }
            }
            model = test::random_model(network, random);
            request = request_for("cc", ADP_CC_SCHEMA, model, 1);
            request.program_hash = hash;
        }
        request.generation = static_cast<uint32_t>(round);
        const Reply reply = genl->call(ADP_CMD_INSTALL, install_attributes(request));
        const std::optional<uint32_t> slot = installed_slot(reply);
        ASSERT_TRUE(slot) << strerror(reply.error) << ": " << reply.message;
        ASSERT_TRUE(genl->call(ADP_CMD_SWITCH, slot_attributes("cc", *slot)).ok());
        const std::vector<uint8_t> inputs = telling_inputs(model, 14, random);
        const RunReply run = run_slot(*genl, "cc", *slot, inputs);
        ASSERT_TRUE(run.reply.ok()) << run.reply.message;
        ASSERT_EQ(run.outputs, interpret_all(model, inputs));
        generated_runs += run_slot(*genl, "cc", *slot, inputs, ADP_RUN_GENERATED).reply.ok();
        // Half of the rounds take the app away with the snapshot active.
        if (round % 2 == 0) {
            Attributes name;
            name.string(ADP_A_APP, "cc");
            ASSERT_TRUE(genl->call(ADP_CMD_CLEAR, name).ok());
        }
        EXPECT_FALSE(unload_module("adapath")) << "the core went under its app";
        std::vector<std::string> unload{"adapath_cc"};
        unload.insert(unload.end(), programs.begin(), programs.end());
        unload.emplace_back("adapath");
        for (const std::string& name : unload) {
            const Status unloaded = unload_soon(name);
            ASSERT_TRUE(unloaded) << unloaded.error().message;
        }
        if (round == 1) {
            std::erase_if(programs,
                          [&](const std::string& name) { return hash_of_generated(name) != request.program_hash; });
        }
        if (round == kWarm) {
            warm_kb = kernel_kb();
        }
    }
    const uint64_t after_kb = kernel_kb();
    fmt::print(
        "memory that the kernel holds: {} kB after {} rounds, {} kB after {}; {} of them ran a generated program\n",
        warm_kb, kWarm, after_kb, kRounds, generated_runs);
    EXPECT_EQ(generated_runs, programs.empty() ? 0U : kRounds);
    // A snapshot's parameters alone, lost each time, would be 2 MB and more. Where kmemleak looks for what is lost, and
    // keeps a record of every allocation for it, the sum says nothing.
    if (access("/sys/kernel/debug/kmemleak", F_OK) != 0) {
        EXPECT_LT(static_cast<int64_t>(after_kb) - static_cast<int64_t>(warm_kb), 1500);
    }
}

}  // namespace
}  // namespace adapath::kmod_test
