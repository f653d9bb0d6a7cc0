// bpf_adp_query(): a BPF program asks a snapshot that adapath.ko holds. Only for a VM (tests/vm).
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstring>
#include <functional>
#include <thread>

#include <linux/if_ether.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kfunc.skel.h"
#include "tests/codegen/clang_fixtures.h"
#include "tests/kmod/driver.h"
#include "tests/kmod/kfunc.h"

namespace adapath::kmod_test {
namespace {

struct DestroySkeleton {
    void operator()(kfunc_bpf* skeleton) const { kfunc_bpf__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<kfunc_bpf, DestroySkeleton>;

class Kfunc : public testing::Test {
protected:
    void SetUp() override {
        const Status loaded = load_modules();
        ASSERT_TRUE(loaded) << loaded.error().message;
        Result<Genl> genl = Genl::open();
        ASSERT_TRUE(genl) << genl.error().message;
        genl_ = std::make_unique<Genl>(std::move(*genl));
        const Result<App> app = get_app(*genl_, "test");
        ASSERT_TRUE(app) << app.error().message;
        app_id_ = app->id;
        skeleton_ = open_programs(false);
        ASSERT_NE(skeleton_, nullptr) << log_;
    }
    void TearDown() override {
        skeleton_.reset();
        if (genl_) {
            Attributes name;
            name.string(ADP_A_APP, "test");
            genl_->call(ADP_CMD_CLEAR, name);
            genl_.reset();
        }
        // A BPF program's last reference to the module goes with a grace period.
        Status unloaded;
        for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);;) {
            unloaded = unload_modules();
            if (unloaded || std::chrono::steady_clock::now() > end) {
                break;
            }
            std::this_thread::yield();
        }
        EXPECT_TRUE(unloaded) << unloaded.error().message;
    }
    // Loaded; with the program that may not ask among them, if `refused`.
    Skeleton open_programs(bool refused) {
        log_.clear();
        libbpf_set_print([](enum libbpf_print_level level, const char* format, va_list arguments) {
            // One message is the verifier's whole log, and what it says last is what matters.
            static char line[1 << 18];
            vsnprintf(line, sizeof(line), format, arguments);
            if (level == LIBBPF_WARN) {
                log_ += line;
            }
            return 0;
        });
        Skeleton skeleton(kfunc_bpf__open());
        if (!skeleton) {
            return nullptr;
        }
        bpf_program__set_autoload(skeleton->progs.kfunc_refused, refused);
        if (kfunc_bpf__load(skeleton.get()) != 0) {
            return nullptr;
        }
        return skeleton;
    }
    void install(const QuantModel& model, uint32_t generation) {
        const Reply reply =
            genl_->call(ADP_CMD_INSTALL, install_attributes(request_for("test", ADPT_SCHEMA, model, generation)));
        const std::optional<uint32_t> slot = installed_slot(reply);
        ASSERT_TRUE(slot) << reply.message;
        ASSERT_TRUE(genl_->call(ADP_CMD_SWITCH, slot_attributes("test", *slot)).ok());
    }
    kfunc_io question(const std::vector<uint8_t>& input) const {
        kfunc_io io{};
        io.app_id = app_id_;
        io.in_size = static_cast<adp_u32>(input.size());
        io.out_size = ADPT_OUTPUTS * sizeof(adp_s32);
        io.result = 12345;
        std::copy(input.begin(), input.end(), io.in);
        return io;
    }
    // Runs a program over it.
    void ask(const bpf_program* program, kfunc_io& io, uint32_t verdict = 0) {
        const uint32_t zero = 0;
        const int map = bpf_map__fd(skeleton_->maps.kfunc_io);
        ASSERT_EQ(bpf_map_update_elem(map, &zero, &io, BPF_ANY), 0) << strerror(errno);
        char packet[ETH_ZLEN] = {};
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = 1);
        ASSERT_EQ(bpf_prog_test_run_opts(bpf_program__fd(program), &options), 0) << strerror(errno);
        ASSERT_EQ(options.retval, verdict);
        ASSERT_EQ(bpf_map_lookup_elem(map, &zero, &io), 0) << strerror(errno);
    }
    static void expect_answer(const kfunc_io& io, const QuantModel& model, std::span<const uint8_t> input,
                              uint32_t generation) {
        ASSERT_EQ(io.result, static_cast<int>(generation));
        const std::vector<int32_t> want = interpret(model, input);
        for (size_t i = 0; i < want.size(); ++i) {
            ASSERT_EQ(io.out[i], std::clamp(want[i], -ADPT_LIMIT, ADPT_LIMIT)) << "output " << i;
        }
    }

    static std::string log_;
    std::mt19937_64 random_{test::environment("ADAPATH_SEED", 1)};
    std::unique_ptr<Genl> genl_;
    Skeleton skeleton_;
    uint32_t app_id_ = 0;
};
std::string Kfunc::log_;

TEST_F(Kfunc, ABpfProgramGetsTheInterpretersOutputs) {
    for (uint32_t generation = 1; generation <= 30; ++generation) {
        const QuantModel model = test::random_model(network_between(ADPT_INPUTS, ADPT_OUTPUTS, random_), random_);
        install(model, generation);
        const std::vector<uint8_t> inputs = telling_inputs(model, 20, random_);
        for (size_t at = 0; at < inputs.size(); at += ADPT_INPUTS) {
            const std::vector<uint8_t> input(inputs.begin() + static_cast<ptrdiff_t>(at),
                                             inputs.begin() + static_cast<ptrdiff_t>(at + ADPT_INPUTS));
            kfunc_io tc = question(input);
            ask(skeleton_->progs.kfunc_tc, tc);
            expect_answer(tc, model, input, generation);
            kfunc_io xdp = question(input);
            ask(skeleton_->progs.kfunc_xdp, xdp, 2);
            expect_answer(xdp, model, input, generation);
            ASSERT_FALSE(HasFatalFailure());
        }
        const std::vector<uint8_t> constant{1, 2, 3, 4, 5, 6, 7, 8};
        kfunc_io stack = question(constant);
        ask(skeleton_->progs.kfunc_stack, stack);
        expect_answer(stack, model, constant, generation);
        ASSERT_FALSE(HasFatalFailure());
    }
}

TEST_F(Kfunc, WrongQuestionsAreRefused) {
    const std::vector<uint8_t> input(ADPT_INPUTS, 7);
    const auto result = [&](const std::function<void(kfunc_io&)>& change) {
        kfunc_io io = question(input);
        change(io);
        const kfunc_io before = io;
        ask(skeleton_->progs.kfunc_tc, io);
        EXPECT_EQ(memcmp(before.out, io.out, sizeof(io.out)), 0) << "wrote an answer though there is none";
        return io.result;
    };
    EXPECT_EQ(result([](kfunc_io&) {}), -ENODATA) << "no snapshot is active";
    install(test::random_model(network_between(ADPT_INPUTS, ADPT_OUTPUTS, random_), random_), 1);
    for (const uint32_t wrong : {0, ADPT_INPUTS - 1, ADPT_INPUTS + 1, ADP_MAX_WIDTH}) {
        EXPECT_EQ(result([&](kfunc_io& io) { io.in_size = wrong; }), -EINVAL) << "in " << wrong;
    }
    for (const uint32_t wrong : {0U, 1U, 4U, 7U, 9U, 16U}) {
        EXPECT_EQ(result([&](kfunc_io& io) { io.out_size = wrong; }), -EINVAL) << "out " << wrong;
    }
    for (const uint32_t wrong : {app_id_ + 1, 15U, 16U, 17U, 0x7fffffffU, 0x80000000U, 0xffffffffU}) {
        EXPECT_EQ(result([&](kfunc_io& io) { io.app_id = wrong; }), -ENOENT) << "app " << wrong;
    }
    kfunc_io sound = question(input);
    ask(skeleton_->progs.kfunc_tc, sound);
    EXPECT_EQ(sound.result, 1);
}

TEST_F(Kfunc, AnswersUnderSwitchesAreOneSnapshotsOwn) {
    std::vector<QuantModel> models;
    for (int m = 0; m < 5; ++m) {
        models.push_back(test::random_model(network_between(ADPT_INPUTS, ADPT_OUTPUTS, random_), random_));
    }
    install(models[1], 1);
    std::atomic<uint32_t> generation = 1;
    std::thread switcher([&] {
        while (generation < 300 && !HasFailure()) {
            const uint32_t next = generation + 1;
            install(models[next % models.size()], next);
            generation = next;
        }
        generation = 300;
    });
    uint32_t last = 1;
    uint64_t asked = 0;
    while (last < 300 && !HasFatalFailure() && generation < 300) {
        std::vector<uint8_t> input(ADPT_INPUTS);
        for (uint8_t& code : input) {
            code = static_cast<uint8_t>(random_());
        }
        kfunc_io io = question(input);
        ask(skeleton_->progs.kfunc_tc, io);
        EXPECT_GE(io.result, static_cast<int>(last));
        if (io.result < 1) {
            break;
        }
        last = static_cast<uint32_t>(io.result);
        expect_answer(io, models[last % models.size()], input, last);
        asked++;
    }
    switcher.join();
    EXPECT_GT(asked, 50U);
    fmt::print("{} questions under {} switches\n", asked, generation.load());
}

TEST_F(Kfunc, OnlyTheKindsOfProgramThatMayAskLoad) {
    EXPECT_EQ(open_programs(true), nullptr) << "a socket filter was let in";
    EXPECT_NE(log_.find("not allowed"), std::string::npos) << log_;
}

TEST_F(Kfunc, TheModuleStaysWhileAProgramCallsIt) {
    genl_.reset();
    // The test module first, so that only the BPF programs hold the core.
    ASSERT_TRUE(unload_module("adapath_test"));
    const Status held = unload_module("adapath");
    EXPECT_FALSE(held) << "unloaded under a loaded BPF program";
    // Nobody is registered any more: a clean answer, not a stale pointer.
    kfunc_io io = question(std::vector<uint8_t>(ADPT_INPUTS));
    ask(skeleton_->progs.kfunc_tc, io);
    EXPECT_EQ(io.result, -ENOENT);
    if (held) {
        return;
    }
    const Status again = load_modules();
    ASSERT_TRUE(again) << again.error().message;
}

}  // namespace
}  // namespace adapath::kmod_test
