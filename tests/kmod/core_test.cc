// adapath.ko itself, in a running kernel: the slots' state machine, every implementation's bits, queries from every
// context under switches, bound flows, the sample ring, and who may do what. Drives adapath_test.ko
// (tests/kmod/module). Only for a VM (tests/vm): it loads the modules from $ADAPATH_MODULES and takes them away again.
//
// ADAPATH_SEED repeats a run; ADAPATH_PROPERTY_NETWORKS (300), ADAPATH_SWITCHES (2000) set how much.
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/codegen/clang_fixtures.h"
#include "tests/kmod/driver.h"

namespace adapath::kmod_test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

class Modules : public testing::Environment {
public:
    void SetUp() override {
        const Status loaded = load_modules();
        ASSERT_TRUE(loaded) << loaded.error().message;
    }
    // Fails where anything still holds a snapshot, an app or the ring.
    void TearDown() override {
        const Status unloaded = unload_modules();
        EXPECT_TRUE(unloaded) << unloaded.error().message;
    }
};

class Core : public testing::Test {
protected:
    void SetUp() override {
        seed_ = test::environment("ADAPATH_SEED", std::random_device{}());
        random_.seed(seed_);
        RecordProperty("seed", std::to_string(seed_));
        Result<Genl> genl = Genl::open();
        ASSERT_TRUE(genl) << genl.error().message;
        genl_ = std::make_unique<Genl>(std::move(*genl));
        Result<Driver> driver = Driver::open();
        ASSERT_TRUE(driver) << driver.error().message;
        driver_ = std::make_unique<Driver>(std::move(*driver));
    }
    void TearDown() override {
        if (genl_) {
            command(ADP_CMD_CLEAR);
        }
        if (HasFailure()) {
            fmt::print("seed: ADAPATH_SEED={}\n", seed_);
        }
    }

    Reply command(uint8_t what, const std::string& app = "test") {
        Attributes name;
        name.string(ADP_A_APP, app);
        return genl_->call(what, name);
    }
    Reply slot_command(uint8_t what, uint32_t slot, const std::string& app = "test") {
        return genl_->call(what, slot_attributes(app, slot));
    }
    Reply configure(uint32_t wakeup_bytes, const std::string& app = "test") {
        Attributes request;
        request.string(ADP_A_APP, app).u32(ADP_A_WAKEUP_BYTES, wakeup_bytes);
        return genl_->call(ADP_CMD_CONFIGURE, request);
    }
    App app(const std::string& name = "test") {
        Result<App> result = get_app(*genl_, name);
        EXPECT_TRUE(result) << result.error().message;
        return result ? *result : App{};
    }
    QuantModel model_between(uint32_t inputs, uint32_t outputs) {
        return test::random_model(network_between(inputs, outputs, random_), random_);
    }
    QuantModel test_model() { return model_between(ADPT_INPUTS, ADPT_OUTPUTS); }
    // Installs; fails the test where the kernel refuses.
    uint32_t install(const QuantModel& model, uint32_t generation, uint32_t explore = 0,
                     const std::string& name = "test") {
        InstallRequest request = request_for(name, ADPT_SCHEMA, model, generation);
        request.explore = explore;
        const Reply reply = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
        EXPECT_TRUE(reply.ok()) << strerror(reply.error) << ": " << reply.message;
        return installed_slot(reply).value_or(ADP_SLOT_NONE);
    }
    uint32_t install_and_switch(const QuantModel& model, uint32_t generation, uint32_t explore = 0) {
        const uint32_t slot = install(model, generation, explore);
        const Reply reply = slot_command(ADP_CMD_SWITCH, slot);
        EXPECT_TRUE(reply.ok()) << strerror(reply.error) << ": " << reply.message;
        return slot;
    }
    // One query of the app "test".
    adpt_query ask(const std::vector<uint8_t>& input, uint32_t context = ADPT_PROCESS, int32_t flow = -1) {
        adpt_query query{};
        query.context = context;
        query.flow = flow;
        EXPECT_EQ(driver_->query(query, input), 0);
        return query;
    }
    // One of a flow, as its number has it.
    adpt_query ask_of(uint64_t number, const std::vector<uint8_t>& input, uint32_t context = ADPT_PROCESS) {
        adpt_query query{};
        query.context = context;
        query.flow = -1;
        query.number = number;
        EXPECT_EQ(driver_->query(query, input), 0);
        return query;
    }
    // An answer is just what the model says.
    void expect_answer(const adpt_query& query, const QuantModel& model, const std::vector<uint8_t>& input,
                       uint32_t generation) {
        ASSERT_EQ(query.result, 0);
        EXPECT_EQ(query.generation, generation);
        const std::vector<int32_t> want = interpret(model, input);
        for (size_t i = 0; i < want.size(); ++i) {
            EXPECT_EQ(query.raw[i], want[i]) << "output " << i;
            EXPECT_EQ(query.out[i], std::clamp(want[i], -ADPT_LIMIT, ADPT_LIMIT)) << "output " << i;
        }
    }
    std::vector<uint8_t> random_input(size_t width = ADPT_INPUTS) {
        std::vector<uint8_t> input(width);
        for (uint8_t& code : input) {
            code = static_cast<uint8_t>(random_());
        }
        return input;
    }

    uint64_t seed_ = 0;
    std::mt19937_64 random_;
    std::unique_ptr<Genl> genl_;
    std::unique_ptr<Driver> driver_;
};

bool wait_until(const std::function<bool()>& condition, seconds limit = seconds(20)) {
    const auto end = Clock::now() + limit;
    while (!condition()) {
        if (Clock::now() > end) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

// ---- what is registered ----

TEST_F(Core, TheAppIsWhatItsModuleSaid) {
    const App a = app();
    EXPECT_EQ(a.name, "test");
    EXPECT_EQ(a.abi_version, ADP_ABI_VERSION);
    EXPECT_EQ(a.schema, ADPT_SCHEMA);
    EXPECT_EQ(a.inputs, ADPT_INPUTS);
    EXPECT_EQ(a.outputs, ADPT_OUTPUTS);
    EXPECT_EQ(a.record_bytes, sizeof(adpt_record));
    EXPECT_EQ(a.device, "adapath/test");
    EXPECT_EQ(a.interface, "");
    EXPECT_EQ(a.active, ADP_SLOT_NONE);
    EXPECT_EQ(a.standby, ADP_SLOT_NONE);
    EXPECT_EQ(a.stats.size(), sizeof(adp_stats) / sizeof(adp_u64));
    EXPECT_TRUE(a.slots.empty());

    const Reply unknown = command(ADP_CMD_GET_APP, "nobody");
    EXPECT_EQ(unknown.error, ENOENT);
    EXPECT_FALSE(unknown.message.empty());

    // All apps, as a dump; more than one message's worth of them.
    std::set<std::string> want{"test"};
    for (int i = 0; i < 5; ++i) {
        adpt_app more = app_description(fmt::format("more_{}", i), 3, 1);
        ASSERT_EQ(driver_->register_app(more), 0);
        want.insert(more.name);
    }
    const Reply dump = genl_->call(ADP_CMD_GET_APP, Attributes(), true);
    ASSERT_TRUE(dump.ok()) << strerror(dump.error);
    std::set<std::string> got;
    for (const std::vector<uint8_t>& message : dump.messages) {
        const std::vector<Attribute> attributes = parse_attributes(message);
        const Attribute* name = find(attributes, ADP_A_APP);
        ASSERT_NE(name, nullptr);
        got.insert(name->string());
    }
    for (const std::string& name : want) {
        EXPECT_TRUE(got.count(name)) << name;
    }
}

TEST_F(Core, DescriptionsOutOfRangeAreRefused) {
    const auto refused = [&](int error, const std::function<void(adpt_app&)>& change) {
        adpt_app a = app_description("fine", 4, 2);
        change(a);
        const int result = driver_->register_app(a);
        EXPECT_EQ(result, -error) << a.name;
        if (result == 0) {
            driver_->unregister_app(a.app);
        }
    };
    refused(0, [](adpt_app&) {});
    refused(0, [](adpt_app& a) { strcpy(a.name, "fifteen_letters"); });
    refused(EINVAL, [](adpt_app& a) { strcpy(a.name, "sixteen_letters_"); });
    refused(EINVAL, [](adpt_app& a) { a.name[0] = 0; });
    refused(EINVAL, [](adpt_app& a) { strcpy(a.name, "Upper"); });
    refused(EINVAL, [](adpt_app& a) { strcpy(a.name, "../etc"); });
    refused(EINVAL, [](adpt_app& a) { strcpy(a.name, "a b"); });
    refused(EINVAL, [](adpt_app& a) { strcpy(a.interface, "sixteen_letters_"); });
    refused(EEXIST, [](adpt_app& a) { strcpy(a.name, "test"); });
    refused(EINVAL, [](adpt_app& a) { a.inputs = 0; });
    refused(EINVAL, [](adpt_app& a) { a.inputs = ADP_MAX_WIDTH + 1; });
    refused(0, [](adpt_app& a) { a.inputs = ADP_MAX_WIDTH; });
    refused(EINVAL, [](adpt_app& a) { a.outputs = 0; });
    refused(EINVAL, [](adpt_app& a) { a.outputs = ADP_MAX_OUTPUTS + 1; });
    refused(EINVAL, [](adpt_app& a) { a.lowest[1] = a.highest[1] + 1; });
    refused(EINVAL, [](adpt_app& a) { a.record_bytes = 0; });
    refused(EINVAL, [](adpt_app& a) { a.record_bytes = 12; });
    refused(EINVAL, [](adpt_app& a) { a.record_bytes = 1032; });
    refused(0, [](adpt_app& a) { a.record_bytes = 1024; });
    refused(EINVAL, [](adpt_app& a) { a.ring_records = 0; });
    refused(EINVAL, [](adpt_app& a) { a.ring_records = 48; });
    refused(EINVAL, [](adpt_app& a) { a.ring_records = 131072; });
    refused(0, [](adpt_app& a) { a.ring_records = 1; });
}

TEST_F(Core, ProgramsThatNoNetworkMayHaveAreRefused) {
    const auto result = [&](const std::function<void(adpt_program&)>& change) {
        adpt_program p{};
        p.hash = 0x1234;
        p.generator_version = kGeneratorVersion;
        p.layers = 2;
        p.shape[0] = {8, 16, ADP_TANH, {}};
        p.shape[1] = {16, 2, ADP_IDENTITY, {}};
        change(p);
        EXPECT_EQ(driver_->request(ADPT_IOC_PROGRAM, &p), 0);
        return p.result;
    };
    EXPECT_EQ(result([](adpt_program&) {}), 0);
    EXPECT_EQ(result([](adpt_program& p) { p.hash = ADPT_EMPTY_HASH; }), -EEXIST);
    EXPECT_EQ(result([](adpt_program& p) { p.layers = 0; }), -EINVAL);
    EXPECT_EQ(result([](adpt_program& p) { p.layers = ADP_MAX_LAYERS + 1; }), -EINVAL);
    EXPECT_EQ(result([](adpt_program& p) { p.shape[1].inputs = 15; }), -EINVAL);
    EXPECT_EQ(result([](adpt_program& p) { p.shape[0].inputs = 0; }), -EINVAL);
    EXPECT_EQ(result([](adpt_program& p) { p.shape[0].inputs = ADP_MAX_WIDTH + 1; }), -EINVAL);
    EXPECT_EQ(result([](adpt_program& p) { p.shape[1].outputs = ADP_MAX_OUTPUTS + 1; }), -EINVAL);
    EXPECT_EQ(result([](adpt_program& p) { p.shape[1].activation = ADP_ACTIVATIONS; }), -EINVAL);
    EXPECT_EQ(result([](adpt_program& p) { p.shape[0] = {256, 256, ADP_TANH, {}}, p.shape[1].inputs = 256; }), -EINVAL)
        << "more parameters than a slot holds";
}

// ---- the slots against a model of them ----

struct SlotModel {
    uint32_t state = ADP_SLOT_FREE;
    uint32_t generation = 0;
    uint32_t explore = 0;
    uint32_t bound = 0;
};

struct FlowModel {
    bool bound = false;
    uint32_t generation = 0;
};

// What netlink.h says of the commands.
class SlotsModel {
public:
    std::vector<SlotModel> slots{ADP_SLOTS};
    uint32_t standby = ADP_SLOT_NONE;
    uint32_t share = 0;

    [[nodiscard]] uint32_t active() const { return in_state(ADP_SLOT_ACTIVE); }
    [[nodiscard]] uint32_t canary() const { return in_state(ADP_SLOT_CANARY); }
    // Who decides for a flow.
    [[nodiscard]] uint32_t decides(uint64_t flow) const {
        return canary() != ADP_SLOT_NONE && flow != 0 && adp_flow_in_share(flow, share) ? canary() : active();
    }
    void reclaim() {
        for (SlotModel& s : slots) {
            if (s.state == ADP_SLOT_DRAINING && s.bound == 0) {
                s = {};
            }
        }
    }
    // Room for one more: a free slot, else the oldest that was never switched to. False: there is none.
    bool make_room() {
        reclaim();
        SlotModel* oldest = nullptr;
        for (SlotModel& s : slots) {
            if (s.state == ADP_SLOT_FREE) {
                return true;
            }
            if (s.state == ADP_SLOT_READY && (oldest == nullptr || s.generation < oldest->generation)) {
                oldest = &s;
            }
        }
        if (oldest == nullptr) {
            return false;
        }
        *oldest = {};
        return true;
    }
    int switch_to(uint32_t slot) {
        if (slots[slot].state == ADP_SLOT_FREE) {
            return ENOENT;
        }
        if (slots[slot].state == ADP_SLOT_ACTIVE) {
            return 0;
        }
        if (slots[slot].state == ADP_SLOT_DRAINING) {
            return EBUSY;
        }
        retire(slot);
        slots[slot].state = ADP_SLOT_ACTIVE;
        end_canary();
        return 0;
    }
    int try_out(uint32_t slot, uint32_t of_flows) {
        if (of_flows < 1 || of_flows > 65536) {
            return EINVAL;
        }
        if (slots[slot].state == ADP_SLOT_FREE) {
            return ENOENT;
        }
        if (canary() != ADP_SLOT_NONE && canary() != slot) {
            return EBUSY;
        }
        if (slots[slot].state != ADP_SLOT_READY && slots[slot].state != ADP_SLOT_CANARY) {
            return EBUSY;
        }
        if (active() == ADP_SLOT_NONE) {
            return ENODATA;
        }
        slots[slot].state = ADP_SLOT_CANARY;
        share = of_flows;
        return 0;
    }
    // No flow is ever bound to it: free at once.
    void end_canary() {
        if (canary() != ADP_SLOT_NONE) {
            slots[canary()] = {};
        }
    }
    int rollback() { return standby == ADP_SLOT_NONE ? ENOENT : switch_to(standby); }
    void deactivate() {
        if (active() != ADP_SLOT_NONE) {
            retire(ADP_SLOT_NONE);
            end_canary();
        }
    }
    int discard(uint32_t slot) {
        if (slots[slot].state == ADP_SLOT_FREE) {
            return ENOENT;
        }
        if (slots[slot].state != ADP_SLOT_READY) {
            return EBUSY;
        }
        slots[slot] = {};
        return 0;
    }
    void clear() {
        slots.assign(ADP_SLOTS, {});
        standby = ADP_SLOT_NONE;
    }

private:
    [[nodiscard]] uint32_t in_state(uint32_t state) const {
        for (uint32_t s = 0; s < ADP_SLOTS; ++s) {
            if (slots[s].state == state) {
                return s;
            }
        }
        return ADP_SLOT_NONE;
    }
    void retire(uint32_t unless) {
        const uint32_t was_active = active();
        const uint32_t was_standby = standby;
        standby = was_active;
        if (was_active != ADP_SLOT_NONE) {
            slots[was_active].state = ADP_SLOT_STANDBY;
        }
        if (was_standby != ADP_SLOT_NONE && was_standby != unless) {
            slots[was_standby].state = ADP_SLOT_DRAINING;
            if (slots[was_standby].bound == 0) {
                slots[was_standby] = {};
            }
        }
    }
};

TEST_F(Core, SlotsAgreeWithTheirModelOverRandomCommands) {
    constexpr uint32_t kFlows = 16;  // enough to hold every slot
    std::vector<QuantModel> networks;
    for (int i = 0; i < 5; ++i) {
        networks.push_back(test_model());
    }
    const auto network_of_generation = [&](uint32_t g) -> const QuantModel& { return networks[g % networks.size()]; };
    SlotsModel model;
    std::vector<FlowModel> flows(kFlows);
    uint32_t generation = 0;
    const uint64_t steps = test::environment("ADAPATH_STEPS", 3000);
    uint64_t refused = 0;
    uint64_t full = 0;
    uint64_t trials = 0;
    std::string last;
    for (uint64_t step = 0; step < steps; ++step) {
        const auto slot = static_cast<uint32_t>(random_() % ADP_SLOTS);
        const auto flow = static_cast<uint32_t>(random_() % kFlows);
        const uint64_t kind = random_() % 112;
        int want = 0;
        int got = 0;
        if (kind >= 103) {
            const auto share = static_cast<uint32_t>(random_() % 70000);
            last = fmt::format("canary {} share {}", slot, share);
            got = genl_->call(ADP_CMD_CANARY, canary_attributes("test", slot, share)).error;
            want = model.try_out(slot, share);
            trials += want == 0;
        } else if (kind >= 100) {
            last = "end canary";
            got = command(ADP_CMD_END_CANARY).error;
            model.end_canary();
        } else if (kind < 25) {
            last = "install";
            ++generation;
            InstallRequest request = request_for("test", ADPT_SCHEMA, network_of_generation(generation), generation);
            request.explore = static_cast<uint32_t>(random_() % 65537);
            const Reply reply = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
            got = reply.error;
            want = model.make_room() ? 0 : ENOSPC;
            if (got == 0) {
                const uint32_t where = installed_slot(reply).value_or(ADP_SLOTS);
                ASSERT_LT(where, ADP_SLOTS);
                ASSERT_EQ(model.slots[where].state, ADP_SLOT_FREE)
                    << "step " << step << ": installed over slot " << where;
                model.slots[where] = {ADP_SLOT_READY, generation, request.explore, 0};
            } else {
                full += got == ENOSPC;
                EXPECT_NE(reply.message.find("bound"), std::string::npos) << reply.message;
            }
        } else if (kind < 50) {
            last = fmt::format("switch to {}", slot);
            got = slot_command(ADP_CMD_SWITCH, slot).error;
            want = model.switch_to(slot);
        } else if (kind < 58) {
            last = "rollback";
            got = command(ADP_CMD_ROLLBACK).error;
            want = model.rollback();
        } else if (kind < 61) {
            last = "deactivate";
            got = command(ADP_CMD_DEACTIVATE).error;
            model.deactivate();
        } else if (kind < 66) {
            last = fmt::format("discard {}", slot);
            got = slot_command(ADP_CMD_DISCARD, slot).error;
            want = model.discard(slot);
        } else if (kind < 70) {
            last = "reclaim";
            got = command(ADP_CMD_RECLAIM).error;
            model.reclaim();
        } else if (kind < 71 && random_() % 4 == 0) {
            last = "clear";
            got = command(ADP_CMD_CLEAR).error;
            model.clear();
        } else if (kind < 76) {
            last = fmt::format("explore {}", slot);
            const auto explore = static_cast<uint32_t>(random_() % 80000);
            Attributes request = slot_attributes("test", slot);
            request.u32(ADP_A_EXPLORE, explore);
            got = genl_->call(ADP_CMD_SET_EXPLORE, request).error;
            want = explore > 65536 ? EINVAL : model.slots[slot].state == ADP_SLOT_FREE ? ENOENT : 0;
            if (want == 0) {
                model.slots[slot].explore = explore;
            }
        } else if (!flows[flow].bound || kind < 94) {
            if (flows[flow].bound) {
                continue;  // flows stay longer than they wait to begin
            }
            last = fmt::format("bind {}", flow);
            bool bound = false;
            ASSERT_EQ(driver_->bind(0, flow, &bound), 0);
            const uint32_t active = model.active();
            ASSERT_EQ(bound, active != ADP_SLOT_NONE) << "step " << step;
            if (bound) {
                model.slots[active].bound++;
                flows[flow] = {true, model.slots[active].generation};
            }
        } else {
            last = fmt::format("unbind {}", flow);
            ASSERT_EQ(driver_->unbind(0, flow), 0);
            // Of a slot that was cleared meanwhile nothing is left to count.
            for (SlotModel& s : model.slots) {
                if (s.generation == flows[flow].generation) {
                    s.bound--;
                }
            }
            flows[flow] = {};
        }
        ASSERT_EQ(got, want) << "step " << step << ": " << last;
        refused += want != 0;

        const App a = app();
        ASSERT_EQ(a.active, model.active()) << "step " << step << ": " << last;
        ASSERT_EQ(a.standby, model.standby) << "step " << step << ": " << last;
        ASSERT_EQ(a.canary, model.canary()) << "step " << step << ": " << last;
        ASSERT_EQ(a.share, model.canary() == ADP_SLOT_NONE ? 0 : model.share) << "step " << step << ": " << last;
        for (uint32_t s = 0; s < ADP_SLOTS; ++s) {
            const auto found = a.slots.find(s);
            const Slot there = found == a.slots.end() ? Slot{} : found->second;
            const SlotModel& expected = model.slots[s];
            ASSERT_EQ(there.state, expected.state) << "step " << step << ": " << last << ", slot " << s << "\n"
                                                   << fingerprint(a);
            if (expected.state != ADP_SLOT_FREE) {
                ASSERT_EQ(there.generation, expected.generation) << "step " << step << ": " << last;
                ASSERT_EQ(there.explore, expected.explore) << "step " << step << ": " << last;
                ASSERT_EQ(there.bound, expected.bound) << "step " << step << ": " << last << ", slot " << s;
            }
        }
        // Who decides, and who answers a bound flow, is what the states say.
        const std::vector<uint8_t> input = random_input();
        const adpt_query query = ask(input);
        if (model.active() == ADP_SLOT_NONE) {
            ASSERT_EQ(query.result, -ENODATA) << "step " << step << ": " << last;
            ASSERT_EQ(query.ready, 0U);
        } else {
            const SlotModel& active = model.slots[model.active()];
            expect_answer(query, network_of_generation(active.generation), input, active.generation);
            ASSERT_EQ(query.slot, model.active());
            ASSERT_EQ(query.explore_q16, active.explore);
            ASSERT_EQ(query.ready, 1U);
        }
        if (const uint64_t number = 1 + random_() % 1000; model.active() != ADP_SLOT_NONE) {
            const SlotModel& decides = model.slots[model.decides(number)];
            expect_answer(ask_of(number, input), network_of_generation(decides.generation), input, decides.generation);
        }
        for (uint32_t f = 0; f < kFlows; ++f) {
            if (flows[f].bound) {
                expect_answer(ask(input, static_cast<uint32_t>(random_() % ADPT_CONTEXTS), static_cast<int32_t>(f)),
                              network_of_generation(flows[f].generation), input, flows[f].generation);
            }
        }
        ASSERT_FALSE(HasFailure()) << "step " << step << ": " << last;
    }
    fmt::print("{} steps: {} refused as the model says, {} of them for want of a slot\n", steps, refused, full);
    EXPECT_GT(refused, steps / 20);
    EXPECT_GT(full, 0U) << "the test itself: slots never ran out";
    EXPECT_GT(trials, 0U) << "the test itself: nothing was on trial";
}

TEST_F(Core, AShareOfTheFlowsIsDecidedByTheOneOnTrial) {
    const QuantModel before = test_model();
    const QuantModel after = test_model();
    const std::vector<uint8_t> input = random_input();
    EXPECT_EQ(genl_->call(ADP_CMD_CANARY, canary_attributes("test", 0, 16384)).error, ENOENT);
    const uint32_t active = install_and_switch(before, 1);
    const uint32_t slot = install(after, 2);
    for (const uint32_t share : {1U, 6554U, 16384U, 40000U, 65535U, 65536U}) {
        ASSERT_TRUE(genl_->call(ADP_CMD_CANARY, canary_attributes("test", slot, share)).ok());
        EXPECT_EQ(app().slots.at(slot).state, uint32_t{ADP_SLOT_CANARY});
        EXPECT_EQ(app().active, active);
        uint32_t in_share = 0;
        for (uint64_t flow = 1; flow <= 400; ++flow) {
            const bool want = adp_flow_in_share(flow, share) != 0;
            in_share += want;
            expect_answer(ask_of(flow, input, static_cast<uint32_t>(flow % ADPT_CONTEXTS)), want ? after : before,
                          input, want ? 2 : 1);
        }
        // Of so many flows in a row just about the share.
        EXPECT_NEAR(in_share, 400.0 * share / 65536, 3);
        // Who asks for no flow is never on trial.
        expect_answer(ask(input), before, input, 1);
    }
    // In use: neither discarded nor given up for room, and no other beside it.
    EXPECT_EQ(slot_command(ADP_CMD_DISCARD, slot).error, EBUSY);
    const uint32_t other = install(before, 3);
    EXPECT_EQ(genl_->call(ADP_CMD_CANARY, canary_attributes("test", other, 100)).error, EBUSY);
    EXPECT_EQ(genl_->call(ADP_CMD_CANARY, canary_attributes("test", active, 100)).error, EBUSY);
    for (uint32_t g = 4; g < 4 + 2 * ADP_SLOTS; ++g) {
        ASSERT_LT(install(before, g), ADP_SLOTS);
    }
    EXPECT_EQ(app().slots.at(slot).generation, 2U);
    // A bound flow never is: it could not be given back.
    ASSERT_EQ(driver_->bind(0, 0), 0);
    expect_answer(ask(input, ADPT_BH, 0), before, input, 1);
    ASSERT_EQ(driver_->unbind(0, 0), 0);
    // Promoted.
    ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot).ok());
    App a = app();
    EXPECT_EQ(a.active, slot);
    EXPECT_EQ(a.standby, active);
    EXPECT_EQ(a.canary, ADP_SLOT_NONE);
    for (uint64_t flow = 0; flow <= 20; ++flow) {
        expect_answer(ask_of(flow, input), after, input, 2);
    }
    // Whatever changes what is active ends a trial; so does the command, with or without one.
    ASSERT_TRUE(command(ADP_CMD_END_CANARY).ok());
    uint32_t generation = 100;
    for (const uint8_t how :
         {ADP_CMD_END_CANARY, ADP_CMD_ROLLBACK, ADP_CMD_DEACTIVATE, ADP_CMD_CLEAR, ADP_CMD_SWITCH}) {
        const uint32_t there = install_and_switch(before, ++generation);
        install_and_switch(before, ++generation);
        const uint32_t elsewhere = install(before, ++generation);
        const uint32_t trial = install(after, ++generation);
        ASSERT_TRUE(genl_->call(ADP_CMD_CANARY, canary_attributes("test", trial, 65536)).ok());
        expect_answer(ask_of(7, input), after, input, generation);
        ASSERT_TRUE((how == ADP_CMD_SWITCH ? slot_command(how, elsewhere) : command(how)).ok());
        a = app();
        EXPECT_EQ(a.canary, ADP_SLOT_NONE) << "command " << int{how};
        EXPECT_EQ(a.slots.count(trial), 0U) << "command " << int{how};
        EXPECT_TRUE(how != ADP_CMD_ROLLBACK || a.active == there);
        if (a.active != ADP_SLOT_NONE) {
            expect_answer(ask_of(7, input), before, input, a.slots.at(a.active).generation);
        } else {
            EXPECT_EQ(ask_of(7, input).result, -ENODATA);
        }
    }
    for (const uint32_t share : {0U, 65537U, UINT32_MAX}) {
        const Reply reply = genl_->call(ADP_CMD_CANARY, canary_attributes("test", active, share));
        EXPECT_EQ(reply.error, EINVAL);
        EXPECT_NE(reply.message.find("65536"), std::string::npos) << reply.message;
        EXPECT_TRUE(reply.has_offset) << "names no attribute";
    }
}

TEST_F(Core, TheObjectiveIsKeptAndItsBoundsAreSaid) {
    EXPECT_EQ(app().objective, (std::vector<uint32_t>(ADP_OBJECTIVES, 0)));
    const auto set = [&](std::span<const uint32_t> weights) {
        Attributes request;
        request.string(ADP_A_APP, "test")
            .bytes(ADP_A_OBJECTIVE, {reinterpret_cast<const uint8_t*>(weights.data()), weights.size_bytes()});
        return genl_->call(ADP_CMD_CONFIGURE, request);
    };
    const std::vector<uint32_t> wanted{65536, 13107, ADP_OBJECTIVE_MAX_Q16, 0};
    ASSERT_TRUE(set(wanted).ok());
    EXPECT_EQ(app().objective, wanted);
    // What is not named stays.
    ASSERT_TRUE(configure(4096).ok());
    EXPECT_EQ(app().objective, wanted);
    const Reply over = set(std::vector<uint32_t>{65536, ADP_OBJECTIVE_MAX_Q16 + 1, 0, 0});
    EXPECT_EQ(over.error, EINVAL);
    EXPECT_NE(over.message.find("256"), std::string::npos) << over.message;
    EXPECT_TRUE(over.has_offset);
    for (const size_t words : {size_t{0}, size_t{3}, size_t{5}}) {
        EXPECT_NE(set(std::vector<uint32_t>(words, 1)).error, 0) << words << " words";
    }
    EXPECT_EQ(app().objective, wanted);
    ASSERT_TRUE(set(std::vector<uint32_t>(ADP_OBJECTIVES, 0)).ok());
}

TEST_F(Core, SlotsRunOutOnlyWhereFlowsAreBoundToAll) {
    std::vector<QuantModel> networks;
    const std::vector<uint8_t> input = random_input();
    for (uint32_t g = 1; g <= ADP_SLOTS; ++g) {
        networks.push_back(test_model());
        install_and_switch(networks.back(), g);
        bool bound = false;
        ASSERT_EQ(driver_->bind(0, g - 1, &bound), 0);
        ASSERT_TRUE(bound);
    }
    App a = app();
    ASSERT_EQ(a.slots.size(), size_t{ADP_SLOTS});
    for (const auto& [index, slot] : a.slots) {
        EXPECT_EQ(slot.bound, 1U) << "slot " << index;
    }
    const QuantModel more = test_model();
    const InstallRequest request = request_for("test", ADPT_SCHEMA, more, 9);
    const Reply full = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
    EXPECT_EQ(full.error, ENOSPC);
    EXPECT_NE(full.message.find("bound"), std::string::npos) << full.message;
    // Each flow keeps the snapshot that it began with, in every context.
    for (uint32_t context = 0; context < ADPT_CONTEXTS; ++context) {
        for (uint32_t f = 0; f < ADP_SLOTS; ++f) {
            expect_answer(ask(input, context, static_cast<int32_t>(f)), networks[f], input, f + 1);
        }
    }
    // A slot is free again once its last flow has gone, and nothing else becomes so.
    ASSERT_EQ(driver_->unbind(0, 2), 0);
    const uint32_t slot = install(more, 9);
    EXPECT_EQ(a.slots[slot].generation, 3U);
    // Cleared under their flows: those are answered as before until they end.
    ASSERT_TRUE(command(ADP_CMD_CLEAR).ok());
    EXPECT_TRUE(app().slots.empty());
    EXPECT_EQ(ask(input).result, -ENODATA);
    for (uint32_t f = 0; f < ADP_SLOTS; ++f) {
        if (f != 2) {
            expect_answer(ask(input, ADPT_BH, static_cast<int32_t>(f)), networks[f], input, f + 1);
            ASSERT_EQ(driver_->unbind(0, f), 0);
        }
    }
}

uint32_t users_of(Genl& genl, uint64_t hash) {
    const Reply reply = genl.call(ADP_CMD_GET_PROGRAMS, Attributes(), true);
    EXPECT_TRUE(reply.ok()) << strerror(reply.error);
    for (const std::vector<uint8_t>& message : reply.messages) {
        const std::vector<Attribute> attributes = parse_attributes(message);
        const Attribute* that = find(attributes, ADP_A_PROGRAM_HASH);
        const Attribute* users = find(attributes, ADP_A_USERS);
        if (that != nullptr && that->u64() == hash && users != nullptr) {
            const Attribute* name = find(attributes, ADP_A_NAME);
            EXPECT_NE(name, nullptr);
            if (name != nullptr) {
                EXPECT_EQ(name->string(), "adapath_test");
            }
            return users->u32().value();
        }
    }
    ADD_FAILURE() << "program not listed";
    return 0;
}

TEST_F(Core, AProgramServesWhileASnapshotOrAFlowUsesIt) {
    const QuantModel model = constant_model(ADPT_EMPTY_OUTPUT);
    InstallRequest request = request_for("test", ADPT_SCHEMA, model, 1);
    request.program_hash = ADPT_EMPTY_HASH;
    EXPECT_EQ(users_of(*genl_, ADPT_EMPTY_HASH), 0U);
    const Reply reply = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
    ASSERT_TRUE(reply.ok()) << reply.message;
    const uint32_t slot = installed_slot(reply).value();
    EXPECT_EQ(users_of(*genl_, ADPT_EMPTY_HASH), 1U);
    EXPECT_EQ(app().slots[slot].implementation, uint32_t{ADP_RUN_GENERATED}) << "nothing is faster than nothing";
    ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot).ok());
    const std::vector<uint8_t> input = random_input();
    expect_answer(ask(input, ADPT_HARDIRQ), model, input, 1);
    ASSERT_EQ(driver_->bind(0, 0), 0);
    ASSERT_TRUE(command(ADP_CMD_CLEAR).ok());
    // Held by the flow alone; a grace period must not free it.
    expect_answer(ask(input, ADPT_BH, 0), model, input, 1);
    EXPECT_EQ(users_of(*genl_, ADPT_EMPTY_HASH), 1U);
    ASSERT_EQ(driver_->unbind(0, 0), 0);
    EXPECT_TRUE(wait_until([&] { return users_of(*genl_, ADPT_EMPTY_HASH) == 0; }))
        << "not freed after the last unbind";
}

TEST_F(Core, AProgramThatSaysSomethingElseDoesNotDecide) {
    // The empty program on parameters that say something else, and on shapes that are not its own.
    QuantModel wrong;
    do {
        wrong = test::random_model(test::network_of({ADPT_INPUTS, ADPT_OUTPUTS}, {Activation::identity}), random_);
    } while (interpret(wrong, std::vector<uint8_t>(ADPT_INPUTS, 0))[0] == ADPT_EMPTY_OUTPUT);
    const QuantModel other = test::random_model(
        test::network_of({ADPT_INPUTS, 5, ADPT_OUTPUTS}, {Activation::tanh, Activation::identity}), random_);
    uint32_t generation = 0;
    for (const QuantModel& model : {wrong, other}) {
        InstallRequest request = request_for("test", ADPT_SCHEMA, model, ++generation);
        request.program_hash = ADPT_EMPTY_HASH;
        const Reply reply = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
        ASSERT_TRUE(reply.ok()) << reply.message;
        const uint32_t slot = installed_slot(reply).value();
        ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot).ok());
        EXPECT_NE(app().slots[slot].implementation, uint32_t{ADP_RUN_GENERATED});
        for (uint32_t context = 0; context < ADPT_CONTEXTS; ++context) {
            const std::vector<uint8_t> input = random_input();
            expect_answer(ask(input, context), model, input, generation);
        }
    }
    ASSERT_TRUE(command(ADP_CMD_CLEAR).ok());
    EXPECT_TRUE(wait_until([&] { return users_of(*genl_, ADPT_EMPTY_HASH) == 0; }));
}

// ---- bits ----

TEST_F(Core, EveryImplementationGivesTheInterpretersBits) {
    const uint64_t networks = test::environment("ADAPATH_PROPERTY_NETWORKS", 300);
    constexpr uint64_t kPerShape = 6;
    std::map<uint32_t, uint64_t> runs;
    uint64_t done = 0;
    const std::vector<uint32_t> edges{1, 2, 3, 11, 12, 13, 62, 63, 64, 126, 127, 255, 256};
    while (done < networks) {
        const uint32_t inputs = random_() % 3 == 0 ? edges[random_() % edges.size()] : 1 + random_() % 80;
        const auto outputs = static_cast<uint32_t>(1 + random_() % ADP_MAX_OUTPUTS);
        adpt_app described = app_description("shape", inputs, outputs);
        ASSERT_EQ(driver_->register_app(described), 0);
        for (uint64_t n = 0; n < kPerShape && done < networks; ++n, ++done) {
            const uint32_t max_width = random_() % 4 == 0 ? 100 : 40;
            const QuantModel model = test::random_model(
                network_between(inputs, outputs, random_, n == 0 ? ADP_MAX_LAYERS : 3, max_width), random_);
            const uint32_t slot = install(model, static_cast<uint32_t>(done + 1), 0, "shape");
            ASSERT_LT(slot, ADP_SLOTS);
            const std::vector<uint8_t> inputs_bytes = telling_inputs(model, 40, random_);
            const std::vector<int32_t> want = interpret_all(model, inputs_bytes);
            const App a = app("shape");
            std::set<uint32_t> offered{ADP_RUN_CHOSEN, ADP_RUN_GENERIC};
            for (const MeasuredRun& measured : a.slots.at(slot).implementations) {
                offered.insert(measured.implementation);
                EXPECT_GT(measured.picoseconds, 0U);
            }
            EXPECT_TRUE(offered.count(a.slots.at(slot).implementation)) << "runs by what is not offered";
            for (uint32_t how = 0; how < ADP_RUN_COUNT_; ++how) {
                const RunReply run = run_slot(*genl_, "shape", slot, inputs_bytes, how);
                if (!offered.count(how)) {
                    EXPECT_EQ(run.reply.error, EOPNOTSUPP) << "implementation " << how;
                    continue;
                }
                ASSERT_TRUE(run.reply.ok()) << run.reply.message;
                EXPECT_EQ(run.implementation, how == ADP_RUN_CHOSEN ? a.slots.at(slot).implementation : how);
                ASSERT_EQ(run.outputs, want) << describe(model.network) << " implementation " << how;
                runs[how]++;
            }
            if (done % 3 == 0) {
                ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot, "shape").ok());
            }
        }
        ASSERT_EQ(driver_->unregister_app(described.app), 0);
    }
    for (const auto& [how, count] : runs) {
        fmt::print("implementation {}: {} networks of {}\n", how, count, networks);
    }
    EXPECT_EQ(runs[ADP_RUN_GENERIC], networks);
}

// Every adapath_net_<hash>.ko that was built for this kernel.
TEST_F(Core, GeneratedModulesGiveTheInterpretersBitsAndStayWhileInUse) {
    const char* directory = std::getenv("ADAPATH_MODULES");
    const std::vector<std::string> names = generated_modules();
    if (names.empty()) {
        GTEST_SKIP() << "no generated module in ADAPATH_MODULES: tests/vm/make-nets.sh builds some";
    }
    for (const std::string& name : names) {
        const uint64_t hash = hash_of_generated(name);
        const bool was_loaded = module_loaded(name);
        if (!was_loaded) {
            const Status loaded = load_module(fmt::format("{}/{}.ko", directory, name));
            ASSERT_TRUE(loaded) << loaded.error().message;
        }
        const std::optional<Network> network = program_network(*genl_, hash);
        ASSERT_TRUE(network) << name << " is loaded but not listed";
        adpt_app described = app_description("generated", static_cast<uint32_t>(network->input_count()),
                                             static_cast<uint32_t>(network->output_count()));
        ASSERT_EQ(driver_->register_app(described), 0);
        for (uint32_t n = 1; n <= 20; ++n) {
            const QuantModel model = test::random_model(*network, random_);
            InstallRequest request = request_for("generated", ADPT_SCHEMA, model, n);
            request.program_hash = hash;
            const Reply reply = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
            ASSERT_TRUE(reply.ok()) << reply.message;
            const uint32_t slot = installed_slot(reply).value();
            if (n == 1) {
                ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot, "generated").ok());
            }
            const std::vector<uint8_t> inputs = telling_inputs(model, 40, random_);
            const std::vector<int32_t> want = interpret_all(model, inputs);
            const Slot info = app("generated").slots.at(slot);
            EXPECT_TRUE(std::any_of(info.implementations.begin(), info.implementations.end(),
                                    [](const MeasuredRun& m) { return m.implementation == ADP_RUN_GENERATED; }))
                << name << " is not offered";
            const RunReply run = run_slot(*genl_, "generated", slot, inputs, ADP_RUN_GENERATED);
            ASSERT_TRUE(run.reply.ok()) << run.reply.message;
            ASSERT_EQ(run.outputs, want) << name;
        }
        EXPECT_FALSE(unload_module(name)) << "unloaded while snapshots run it";
        ASSERT_TRUE(command(ADP_CMD_CLEAR, "generated").ok());
        if (!was_loaded) {
            EXPECT_TRUE(wait_until([&] { return unload_module(name).ok(); }))
                << name << " stays though nothing uses it";
        }
        ASSERT_EQ(driver_->unregister_app(described.app), 0);
        fmt::print("{}: {}\n", name, describe(*network));
    }
}

TEST_F(Core, OutputsAreClampedToTheSafeRangeWhateverTheNetworkSays) {
    adpt_app narrow = app_description("narrow", ADPT_INPUTS, ADPT_OUTPUTS);
    narrow.lowest[0] = -10;
    narrow.highest[0] = 5;
    narrow.lowest[1] = 100;
    narrow.highest[1] = 100;
    ASSERT_EQ(driver_->register_app(narrow), 0);
    uint32_t generation = 0;
    for (const int32_t says : {INT32_MIN, -1000000, -10, 0, 5, 6, INT32_MAX}) {
        const uint32_t slot = install(constant_model(says), ++generation, 0, "narrow");
        ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot, "narrow").ok());
        for (uint32_t context = 0; context < ADPT_CONTEXTS; ++context) {
            adpt_query query{};
            query.app = narrow.app;
            query.context = context;
            query.flow = -1;
            ASSERT_EQ(driver_->query(query, random_input()), 0);
            ASSERT_EQ(query.result, 0);
            EXPECT_EQ(query.raw[0], says);
            EXPECT_EQ(query.out[0], std::clamp(says, -10, 5));
            EXPECT_EQ(query.out[1], 100);
        }
    }
}

// ---- contexts ----

class Contexts : public Core {
protected:
    static constexpr uint32_t kModels = 6;
    static constexpr uint32_t kVectors = 64;

    void prepare() {
        std::vector<uint8_t> inputs(size_t{kVectors} * ADPT_INPUTS);
        for (uint8_t& code : inputs) {
            code = static_cast<uint8_t>(random_());
        }
        std::vector<int32_t> outputs;
        for (uint32_t m = 0; m < kModels; ++m) {
            // From one layer to some that take a while, so that switches meet running queries.
            models_.push_back(test::random_model(
                network_between(ADPT_INPUTS, ADPT_OUTPUTS, random_, 1 + m, m % 2 ? 60 : 12), random_));
            const std::vector<int32_t> one = interpret_all(models_.back(), inputs);
            outputs.insert(outputs.end(), one.begin(), one.end());
        }
        ASSERT_EQ(driver_->vectors(0, kVectors, kModels, inputs, outputs), 0);
    }
    void expect_sound(const adpt_report& report, uint32_t least, uint32_t greatest) {
        static const char* const names[] = {"process", "preemption off", "interrupts off", "softirq", "hard interrupt"};
        uint64_t all = 0;
        for (uint32_t c = 0; c < ADPT_CONTEXTS; ++c) {
            const adpt_counts& n = report.counts[c];
            fmt::print("{:15} {:9} queries, {:9} of bound flows, {:7} binds, {:8} without a snapshot\n", names[c],
                       n.queries, n.bound_queries, n.binds, n.no_data);
            EXPECT_GT(n.queries, 0U) << names[c];
            EXPECT_EQ(n.wrong_output, 0U) << names[c];
            EXPECT_EQ(n.wrong_clamp, 0U) << names[c];
            EXPECT_EQ(n.wrong_slot, 0U) << names[c];
            EXPECT_EQ(n.wrong_explore, 0U) << names[c];
            EXPECT_EQ(n.generation_changed, 0U) << names[c];
            EXPECT_EQ(n.generation_backwards, 0U) << names[c];
            EXPECT_EQ(n.errors, 0U) << names[c] << ": " << report.last_error;
            EXPECT_EQ(n.wrong_context, 0U) << names[c];
            all += n.queries;
        }
        if (report.generation != 0) {
            ADD_FAILURE() << fmt::format("first wrong output: context {} generation {} vector {}: {} instead of {}",
                                         report.context, report.generation, report.input, report.got[0],
                                         report.want[0]);
        }
        EXPECT_GE(report.least_generation, least);
        EXPECT_LE(report.greatest_generation, greatest);
        EXPECT_GT(all, 0U);
    }
    static uint64_t queries(const adpt_report& report) {
        uint64_t all = 0;
        for (const adpt_counts& n : report.counts) {
            all += n.queries;
        }
        return all;
    }
    // Installs generation g's model; waits where flows hold every slot, since they end by themselves.
    uint32_t install_generation(uint32_t g) {
        InstallRequest request = request_for("test", ADPT_SCHEMA, models_[g % kModels], g);
        request.explore = g & 0xffff;
        const Attributes attributes = install_attributes(request);
        std::optional<uint32_t> slot;
        EXPECT_TRUE(wait_until([&] {
            const Reply reply = genl_->call(ADP_CMD_INSTALL, attributes);
            waited_ += reply.error == ENOSPC;
            slot = installed_slot(reply);
            return reply.error != ENOSPC;
        }));
        EXPECT_TRUE(slot.has_value());
        return slot.value_or(ADP_SLOT_NONE);
    }

    std::vector<QuantModel> models_;
    uint64_t waited_ = 0;
};

TEST_F(Contexts, QueriesUnderSwitchesGiveOnlyWhatASnapshotSays) {
    prepare();
    const uint64_t switches = test::environment("ADAPATH_SWITCHES", 2000);
    const App before = app();
    adpt_start start{};
    start.contexts = (1U << ADPT_CONTEXTS) - 1;
    start.flags = ADPT_EMIT_SAMPLES | ADPT_CHECK_EXPLORE;
    start.flows = 8;
    start.lifetime = 60;
    start.period_us = 2000;
    ASSERT_EQ(driver_->start(start), 0);
    uint64_t done = 0;
    uint64_t rolled_back = 0;
    uint32_t generation = 0;
    // On one processor with everything else in the VM: bounded, and said if it was not enough.
    const auto end = Clock::now() + seconds(150);
    while (done < switches && Clock::now() < end && !HasFailure()) {
        const uint64_t kind = random_() % 10;
        if (kind < 6 || generation < 2) {
            const uint32_t slot = install_generation(++generation);
            ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot).ok());
            done++;
        } else if (kind < 9) {
            const bool ok = command(ADP_CMD_ROLLBACK).ok();
            rolled_back += ok;
            done += ok;
        } else {
            ASSERT_TRUE(command(ADP_CMD_DEACTIVATE).ok());
        }
    }
    ASSERT_EQ(driver_->stop(), 0);
    const adpt_report report = driver_->report();
    fmt::print("{} switches, {} of them back; {} installations waited for a slot; {} CPUs\n", done, rolled_back,
               waited_, report.cpus);
    EXPECT_GE(done, std::min<uint64_t>(switches, 1000)) << "the time did not suffice for 1000 switches";
    expect_sound(report, 1, generation);
    // The core's own count is the callers'.
    const App after = app();
    EXPECT_EQ(after.stats[0] - before.stats[0], queries(report)) << "decisions";
    EXPECT_EQ(after.stats[3] - before.stats[3] + after.stats[4] - before.stats[4], queries(report))
        << "samples and lost";
    for (const auto& [index, slot] : after.slots) {
        EXPECT_EQ(slot.bound, 0U) << "slot " << index << " has flows though all were unbound";
    }
}

TEST_F(Contexts, QueriesUnderTrialsGiveOnlyWhatASnapshotSays) {
    prepare();
    adpt_start start{};
    start.contexts = (1U << ADPT_CONTEXTS) - 1;
    start.flags = ADPT_CHECK_EXPLORE;
    start.period_us = 2000;
    ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, install_generation(1)).ok());
    ASSERT_EQ(driver_->start(start), 0);
    const auto end = Clock::now() + seconds(60);
    uint32_t generation = 1;
    uint64_t ended = 0;
    while (generation < 600 && Clock::now() < end && !HasFailure()) {
        const uint32_t slot = install_generation(++generation);
        ASSERT_TRUE(genl_->call(ADP_CMD_CANARY, canary_attributes("test", slot, 1 + random_() % 65536)).ok());
        if (random_() % 2) {
            ASSERT_TRUE(genl_->call(ADP_CMD_CANARY, canary_attributes("test", slot, 1 + random_() % 65536)).ok());
        }
        switch (random_() % 4) {
            case 0:
                ASSERT_TRUE(command(ADP_CMD_END_CANARY).ok());
                ended++;
                break;
            case 1:
                ended += command(ADP_CMD_ROLLBACK).ok();
                ASSERT_TRUE(command(ADP_CMD_END_CANARY).ok());
                break;
            default:
                ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot).ok());
        }
    }
    ASSERT_EQ(driver_->stop(), 0);
    const adpt_report report = driver_->report();
    fmt::print("{} trials, {} of them ended\n", generation - 1, ended);
    EXPECT_GE(generation, 200U) << "the time did not suffice";
    expect_sound(report, 1, generation);
    for (const adpt_counts& n : report.counts) {
        EXPECT_EQ(n.no_data, 0U) << "a trial leaves no moment without a snapshot";
    }
}

TEST_F(Contexts, ASwitchIsSeenByEveryLaterQuery) {
    prepare();
    adpt_start start{};
    start.contexts = (1U << ADPT_CONTEXTS) - 1;
    start.flags = ADPT_MONOTONIC | ADPT_CHECK_EXPLORE;
    start.period_us = 2000;
    ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, install_generation(1)).ok());
    ASSERT_EQ(driver_->start(start), 0);
    const auto end = Clock::now() + seconds(60);
    uint32_t generation = 1;
    while (generation < 400 && Clock::now() < end && !HasFailure()) {
        const uint32_t slot = install_generation(++generation);
        ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, slot).ok());
        // A query that begins after the switch was acknowledged, in any context, is the new snapshot's.
        const adpt_query query = ask(random_input(), generation % ADPT_CONTEXTS);
        EXPECT_EQ(query.result, 0);
        EXPECT_EQ(query.generation, generation);
    }
    EXPECT_GE(generation, 200U) << "the time did not suffice";
    ASSERT_EQ(driver_->stop(), 0);
    const adpt_report report = driver_->report();
    expect_sound(report, 1, generation);
    for (const adpt_counts& n : report.counts) {
        EXPECT_EQ(n.no_data, 0U) << "a switch leaves no moment without a snapshot";
    }
}

TEST_F(Contexts, ExplorationIsTheSlotsOwnAndChangesAtOnce) {
    const QuantModel model = test_model();
    const uint32_t slot = install_and_switch(model, 1, 500);
    EXPECT_EQ(ask(random_input()).explore_q16, 500U);
    for (const uint32_t explore : {0U, 1U, 65536U}) {
        Attributes request = slot_attributes("test", slot);
        request.u32(ADP_A_EXPLORE, explore);
        ASSERT_TRUE(genl_->call(ADP_CMD_SET_EXPLORE, request).ok());
        EXPECT_EQ(ask(random_input(), ADPT_HARDIRQ).explore_q16, explore);
        EXPECT_EQ(app().slots[slot].explore, explore);
    }
    for (const uint32_t explore : {65537U, UINT32_MAX}) {
        Attributes request = slot_attributes("test", slot);
        request.u32(ADP_A_EXPLORE, explore);
        const Reply reply = genl_->call(ADP_CMD_SET_EXPLORE, request);
        EXPECT_EQ(reply.error, EINVAL);
        EXPECT_FALSE(reply.message.empty());
        EXPECT_TRUE(reply.has_offset) << "names no attribute";
    }
    EXPECT_EQ(app().slots[slot].explore, 65536U);
}

// ---- the ring ----

class Ring : public Core {
protected:
    void SetUp() override {
        Core::SetUp();
        if (HasFatalFailure()) {
            return;
        }
        described_ = app_description("ring", 4, 1);
        ASSERT_EQ(driver_->register_app(described_), 0);
        int error = 0;
        ring_ = RingMapping::open("adapath/ring", &error);
        ASSERT_NE(ring_, nullptr) << strerror(error);
    }
    static adpt_record sample(const uint8_t* record) {
        adpt_record sample{};
        memcpy(&sample, record + ADP_RING_HEADER_BYTES, sizeof(sample));
        return sample;
    }

    adpt_app described_{};
    std::unique_ptr<RingMapping> ring_;
};

TEST_F(Ring, WhatIsEmittedIsReadInOrderAndWhatIsLostIsCounted) {
    const adp_ring_info& info = ring_->info();
    EXPECT_EQ(info.version, uint32_t{ADP_ABI_VERSION});
    EXPECT_EQ(info.record_bytes, sizeof(adpt_record));
    EXPECT_EQ(info.records, described_.ring_records);
    EXPECT_EQ(info.map_bytes, ADP_RING_INFO_BYTES + uint64_t{info.cpus} * info.cpu_bytes);
    EXPECT_GE(info.stride, info.record_bytes + ADP_RING_HEADER_BYTES);
    const auto cpus = static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN));
    ASSERT_GE(info.cpus, cpus);
    std::vector<uint64_t> read(cpus);
    std::vector<uint64_t> emitted(cpus);
    uint64_t last_number = 0;
    uint64_t lost = 0;
    for (int round = 0; round < 300; ++round) {
        const auto cpu = static_cast<uint32_t>(random_() % cpus);
        const auto count = static_cast<uint32_t>(random_() % 40);
        ASSERT_EQ(driver_->emit(described_.app, cpu, emitted[cpu] + 1, count), 0);
        // A reader that sleeps now and then: the ring fills, and what does not fit is lost, the newest first.
        uint64_t lost_now = 0;
        for (uint32_t c = 0; c < cpus; ++c) {
            lost_now += ring_->lost(c);
        }
        lost_now -= lost;
        lost += lost_now;
        ASSERT_LE(lost_now, count);
        emitted[cpu] += count - lost_now;
        ASSERT_EQ(ring_->head(cpu), emitted[cpu]);
        ASSERT_LE(emitted[cpu] - read[cpu], info.records) << "more records than the ring holds";
        if (lost_now > 0) {
            ASSERT_EQ(emitted[cpu] - read[cpu], info.records) << "lost though there was room";
        }
        if (random_() % 3 != 0) {
            for (uint32_t c = 0; c < cpus; ++c) {
                for (; read[c] < ring_->head(c); ++read[c]) {
                    const uint8_t* record = ring_->record(c, read[c]);
                    uint64_t number = 0;
                    memcpy(&number, record, sizeof(number));
                    const adpt_record s = sample(record);
                    ASSERT_EQ(s.cpu, c);
                    ASSERT_EQ(s.number, read[c] + 1) << "order";
                    ASSERT_GE(number, 1U);
                    ASSERT_LE(number, __atomic_load_n(&info.last, __ATOMIC_ACQUIRE));
                    last_number = std::max(last_number, number);
                }
                ring_->set_tail(c, read[c]);
            }
            ASSERT_EQ(last_number, info.last) << "numbers are given out without a gap";
        }
    }
    EXPECT_GT(lost, 0U) << "the test itself: nothing was lost";
    const App a = app("ring");
    EXPECT_EQ(a.stats[3], info.last) << "samples";
    EXPECT_EQ(a.stats[4], lost) << "samples lost";
}

TEST_F(Ring, LossIsCountedWhenNobodyReads) {
    ASSERT_EQ(driver_->emit(described_.app, 0, 1, 10000), 0);
    const App a = app("ring");
    EXPECT_EQ(a.stats[3], described_.ring_records);
    EXPECT_EQ(a.stats[4], 10000 - described_.ring_records);
    EXPECT_EQ(ring_->lost(0), 10000 - described_.ring_records);
}

TEST_F(Ring, AReaderThatLiesAboutItsTailsLosesSamplesOnly) {
    const std::vector<uint64_t> lies{0, 1, ~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 32, described_.ring_records};
    std::atomic<bool> stop = false;
    std::mt19937_64 random(seed_);
    std::thread liar([&] {
        while (!stop) {
            for (uint32_t c = 0; c < ADP_RING_MAX_CPUS; ++c) {
                ring_->set_tail(c, random() % 2 ? random() : lies[random() % lies.size()]);
            }
        }
    });
    const auto cpus = static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN));
    uint64_t emitted = 0;
    for (int round = 0; round < 500; ++round) {
        EXPECT_EQ(driver_->emit(described_.app, static_cast<uint32_t>(round) % cpus, emitted + 1, 200), 0);
        emitted += 200;
        if (round % 50 == 0) {
            // poll() reads the tails as well.
            pollfd waiting{ring_->fd(), POLLIN, 0};
            EXPECT_GE(poll(&waiting, 1, 0), 0);
            EXPECT_TRUE(configure(round % 100 ? 1 : 4096, "ring").ok());
        }
    }
    stop = true;
    liar.join();
    const App a = app("ring");
    EXPECT_EQ(a.stats[3] + a.stats[4], emitted) << "every sample is either there or counted as lost";
    // Honest again: the ring works on.
    for (uint32_t c = 0; c < cpus; ++c) {
        ring_->set_tail(c, ring_->head(c));
    }
    const uint64_t head = ring_->head(0);
    ASSERT_EQ(driver_->emit(described_.app, 0, 77, 1), 0);
    ASSERT_EQ(ring_->head(0), head + 1);
    EXPECT_EQ(sample(ring_->record(0, head)).number, 77U);
}

TEST_F(Ring, OneReaderAtATime) {
    int error = 0;
    EXPECT_EQ(RingMapping::open("adapath/ring", &error), nullptr);
    EXPECT_EQ(error, EBUSY);
    ring_.reset();
    ring_ = RingMapping::open("adapath/ring", &error);
    EXPECT_NE(ring_, nullptr) << strerror(error);
}

TEST_F(Ring, OnlyWhatIsMeantToBeMappedIsMapped) {
    const auto mapped = [&](size_t bytes, int protection, int flags, off_t offset) {
        void* at = mmap(nullptr, bytes, protection, flags, ring_->fd(), offset);
        if (at == MAP_FAILED) {
            return false;
        }
        munmap(at, bytes);
        return true;
    };
    const size_t whole = ring_->info().map_bytes;
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    EXPECT_TRUE(mapped(ADP_RING_TAILS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, 0));
    EXPECT_TRUE(mapped(whole, PROT_READ, MAP_SHARED, ADP_RING_DATA_OFFSET));
    EXPECT_TRUE(mapped(page, PROT_READ, MAP_SHARED, ADP_RING_DATA_OFFSET));
    // Writable: neither at once nor later.
    EXPECT_FALSE(mapped(whole, PROT_READ | PROT_WRITE, MAP_SHARED, ADP_RING_DATA_OFFSET));
    EXPECT_FALSE(mapped(whole, PROT_WRITE, MAP_SHARED, ADP_RING_DATA_OFFSET));
    void* data = mmap(nullptr, whole, PROT_READ, MAP_SHARED, ring_->fd(), ADP_RING_DATA_OFFSET);
    ASSERT_NE(data, MAP_FAILED);
    EXPECT_NE(mprotect(data, whole, PROT_READ | PROT_WRITE), 0);
    EXPECT_EQ(errno, EACCES);
    munmap(data, whole);
    // Private copies would never see a change.
    EXPECT_FALSE(mapped(whole, PROT_READ, MAP_PRIVATE, ADP_RING_DATA_OFFSET));
    EXPECT_FALSE(mapped(ADP_RING_TAILS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0));
    // Too long, by a page and by much.
    EXPECT_FALSE(mapped(whole + page, PROT_READ, MAP_SHARED, ADP_RING_DATA_OFFSET));
    EXPECT_FALSE(mapped(whole * 4, PROT_READ, MAP_SHARED, ADP_RING_DATA_OFFSET));
    EXPECT_FALSE(mapped(ADP_RING_TAILS_BYTES + page, PROT_READ | PROT_WRITE, MAP_SHARED, 0));
    // Other offsets: beside the two, behind them, far off.
    for (const uint64_t offset :
         {uint64_t{page}, ADP_RING_DATA_OFFSET - uint64_t{page}, ADP_RING_DATA_OFFSET + uint64_t{page},
          uint64_t{2} * ADP_RING_DATA_OFFSET, uint64_t{1} << 40, (uint64_t{1} << 63) - page}) {
        EXPECT_FALSE(mapped(page, PROT_READ, MAP_SHARED, static_cast<off_t>(offset))) << offset;
    }
    char byte = 0;
    EXPECT_LT(read(ring_->fd(), &byte, 1), 0);
    EXPECT_LT(write(ring_->fd(), &byte, 1), 0);
}

TEST_F(Ring, PollSaysReadableAtTheFillMark) {
    const auto readable = [&](int limit_ms) {
        pollfd waiting{ring_->fd(), POLLIN, 0};
        return poll(&waiting, 1, limit_ms) == 1 && (waiting.revents & POLLIN);
    };
    // Without a mark, never.
    ASSERT_EQ(driver_->emit(described_.app, 0, 1, 20), 0);
    EXPECT_FALSE(readable(0));
    ASSERT_TRUE(configure(30 * sizeof(adpt_record), "ring").ok());
    EXPECT_EQ(app("ring").wakeup_bytes, 30 * sizeof(adpt_record));
    EXPECT_FALSE(readable(0));
    ASSERT_EQ(driver_->emit(described_.app, 0, 21, 9), 0);
    EXPECT_FALSE(readable(0)) << "one record below the mark";
    ASSERT_EQ(driver_->emit(described_.app, 0, 30, 1), 0);
    EXPECT_TRUE(readable(0));
    ring_->set_tail(0, ring_->head(0));
    EXPECT_FALSE(readable(0)) << "all was read";
    // A reader that sleeps is woken by the record that reaches the mark.
    std::thread writer([&] {
        for (int i = 0; i < 30; ++i) {
            driver_->emit(described_.app, 0, 31 + i, 1);
        }
    });
    EXPECT_TRUE(readable(20000));
    writer.join();
    // And by the mark itself coming down to what is there.
    ASSERT_TRUE(configure(60 * sizeof(adpt_record), "ring").ok());
    EXPECT_FALSE(readable(0));
    ASSERT_TRUE(configure(10 * sizeof(adpt_record), "ring").ok());
    EXPECT_TRUE(readable(0));
}

TEST_F(Ring, AnAppThatGoesLeavesItsReaderUnharmed) {
    ASSERT_EQ(driver_->emit(described_.app, 0, 1, 5), 0);
    std::atomic<bool> hung_up = false;
    std::thread reader([&] {
        pollfd waiting{ring_->fd(), POLLIN, 0};
        hung_up = poll(&waiting, 1, 20000) == 1 && (waiting.revents & (POLLHUP | POLLERR));
    });
    ASSERT_EQ(driver_->unregister_app(described_.app), 0);
    reader.join();
    EXPECT_TRUE(hung_up) << "a sleeping reader is told";
    // What was mapped stays mapped, and no one else's.
    EXPECT_EQ(sample(ring_->record(0, 4)).number, 5U);
    EXPECT_EQ(command(ADP_CMD_GET_APP, "ring").error, ENOENT);
    adpt_app again = app_description("ring", 4, 1);
    ASSERT_EQ(driver_->register_app(again), 0) << "the name is free again, old reader or not";
    ASSERT_EQ(driver_->emit(again.app, 0, 1000, 3), 0);
    EXPECT_EQ(sample(ring_->record(0, 0)).number, 1U);
    int error = 0;
    const auto fresh = RingMapping::open("adapath/ring", &error);
    ASSERT_NE(fresh, nullptr) << strerror(error);
    EXPECT_EQ(sample(fresh->record(0, 0)).number, 1000U);
}

TEST_F(Contexts, SamplesOfEveryContextArriveWhole) {
    prepare();
    ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, install_generation(1)).ok());
    int error = 0;
    const auto ring = RingMapping::open("adapath/test", &error);
    ASSERT_NE(ring, nullptr) << strerror(error);
    const auto cpus = static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN));
    std::vector<uint64_t> read(cpus);
    for (uint32_t c = 0; c < cpus; ++c) {
        read[c] = ring->head(c);
        ring->set_tail(c, read[c]);
    }
    const App before = app();
    adpt_start start{};
    start.contexts = (1U << ADPT_CONTEXTS) - 1;
    start.flags = ADPT_EMIT_SAMPLES;
    start.period_us = 1000;
    ASSERT_EQ(driver_->start(start), 0);
    uint64_t seen = 0;
    std::map<std::pair<uint32_t, uint32_t>, uint64_t> last;  // by CPU and context
    const auto drain = [&] {
        for (uint32_t c = 0; c < cpus; ++c) {
            uint64_t previous = 0;
            for (const uint64_t head = ring->head(c); read[c] < head; ++read[c]) {
                const uint8_t* record = ring->record(c, read[c]);
                uint64_t number = 0;
                memcpy(&number, record, sizeof(number));
                adpt_record s{};
                memcpy(&s, record + ADP_RING_HEADER_BYTES, sizeof(s));
                ASSERT_GT(number, previous) << "numbers rise within a ring";
                previous = number;
                ASSERT_EQ(s.cpu, c);
                ASSERT_LT(s.context, uint32_t{ADPT_CONTEXTS});
                ASSERT_EQ(s.generation, 1U);
                uint64_t& mine = last[{c, s.context}];
                ASSERT_GT(s.number, mine) << "a context's samples are in its order";
                mine = s.number;
                seen++;
            }
            ring->set_tail(c, read[c]);
        }
    };
    const auto end = Clock::now() + seconds(60);
    while (seen < 50000 && Clock::now() < end && !HasFatalFailure()) {
        drain();
    }
    ASSERT_EQ(driver_->stop(), 0);
    drain();
    EXPECT_GE(seen, 50000U);
    EXPECT_EQ(last.size(), size_t{cpus} * ADPT_CONTEXTS) << "samples of every context on every CPU";
    const App after = app();
    EXPECT_EQ(after.stats[3] - before.stats[3], seen) << "samples";
    EXPECT_EQ(queries(driver_->report()), seen + after.stats[4] - before.stats[4]);
}

// ---- who may do what ----

// Runs it in a child as nobody; what it returns is its exit code.
int as_nobody(const std::function<int()>& what, bool own_user_namespace, bool own_network) {
    const pid_t child = fork();
    if (child == 0) {
        const bool ready = setgroups(0, nullptr) == 0 && setresgid(65534, 65534, 65534) == 0 &&
                           setresuid(65534, 65534, 65534) == 0 &&
                           (!own_user_namespace || unshare(CLONE_NEWUSER | (own_network ? CLONE_NEWNET : 0)) == 0);
        _exit(ready ? what() : 99);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

TEST_F(Core, WithoutCapNetAdminThereIsOnlyLooking) {
    const QuantModel model = test_model();
    const uint32_t slot = install_and_switch(model, 1);
    const std::string before = fingerprint(app());
    std::map<uint8_t, Attributes> requests;
    for (uint8_t c = ADP_CMD_INSTALL; c <= ADP_CMD_MAX; ++c) {
        requests[c] = slot_attributes("test", slot);
    }
    requests[ADP_CMD_INSTALL] = install_attributes(request_for("test", ADPT_SCHEMA, model, 2));
    requests[ADP_CMD_SET_EXPLORE].u32(ADP_A_EXPLORE, 7);
    requests[ADP_CMD_RUN].bytes(ADP_A_RUN_INPUTS, std::vector<uint8_t>(ADPT_INPUTS));
    const auto look = [&]() -> int {
        Result<Genl> genl = Genl::open();
        if (!genl) {
            return 1;
        }
        if (!get_app(*genl, "test")) {
            return 2;
        }
        if (!genl->call(ADP_CMD_GET_PROGRAMS, Attributes(), true).ok()) {
            return 3;
        }
        for (const auto& [command_number, attributes] : requests) {
            if (genl->call(command_number, attributes).error != EPERM) {
                return 10 + command_number;
            }
        }
        if (open("/dev/adapath/test", O_RDWR) >= 0 || errno != EACCES) {
            return 4;
        }
        return 0;
    };
    EXPECT_EQ(as_nobody(look, false, false), 0) << "10 + command: it was not refused with EPERM";
    // Capable in a user namespace of one's own is not capable here.
    EXPECT_EQ(as_nobody(look, true, false), 0) << "99: no user namespaces on this kernel";
    // And in a network namespace of one's own the family is not there at all.
    EXPECT_EQ(as_nobody([] { return Genl::open() ? 1 : 0; }, true, true), 0) << "99: no user namespaces on this kernel";
    EXPECT_EQ(fingerprint(app()), before);
}

TEST_F(Core, WrongRequestsAreRefusedWithAReason) {
    const QuantModel model = test_model();
    const uint32_t slot = install_and_switch(model, 1);
    const std::string before = fingerprint(app());
    const InstallRequest good = request_for("test", ADPT_SCHEMA, model, 2);
    const auto refused = [&](int error, const char* what, const std::function<void(InstallRequest&)>& change) {
        InstallRequest request = good;
        change(request);
        const Reply reply = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
        EXPECT_EQ(reply.error, error) << what;
        EXPECT_FALSE(reply.message.empty()) << what;
        EXPECT_EQ(fingerprint(app()), before) << what;
    };
    refused(ENOENT, "unknown app", [](InstallRequest& r) { r.app = "nobody"; });
    refused(EINVAL, "schema", [](InstallRequest& r) { r.schema++; });
    refused(ERANGE, "generation 0", [](InstallRequest& r) { r.generation = 0; });
    refused(EINVAL, "explore", [](InstallRequest& r) { r.explore = 65537; });
    refused(EINVAL, "no layers", [](InstallRequest& r) { r.layers.clear(); });
    refused(EINVAL, "too many layers",
            [](InstallRequest& r) { r.layers.assign(9, {ADPT_INPUTS, ADPT_INPUTS, Activation::relu}); });
    refused(EINVAL, "short parameters", [](InstallRequest& r) { r.params.resize(r.params.size() - 8); });
    refused(EINVAL, "long parameters", [](InstallRequest& r) { r.params.resize(r.params.size() + 8); });
    refused(EINVAL, "other parameters", [](InstallRequest& r) { std::fill(r.params.begin(), r.params.end(), 0xff); });
    const QuantModel wide = model_between(ADPT_INPUTS + 1, ADPT_OUTPUTS);
    refused(EINVAL, "other inputs",
            [&](InstallRequest& r) { r.layers = wide.network.layers, r.params = pack(wide).value(); });
    const QuantModel single = model_between(ADPT_INPUTS, 1);
    refused(EINVAL, "other outputs",
            [&](InstallRequest& r) { r.layers = single.network.layers, r.params = pack(single).value(); });

    const auto error_of = [&](const Reply& reply) {
        EXPECT_FALSE(reply.message.empty());
        return reply.error;
    };
    EXPECT_EQ(error_of(slot_command(ADP_CMD_SWITCH, ADP_SLOTS)), ERANGE);
    EXPECT_EQ(error_of(slot_command(ADP_CMD_SWITCH, (slot + 1) % ADP_SLOTS)), ENOENT);
    EXPECT_EQ(error_of(slot_command(ADP_CMD_DISCARD, slot)), EBUSY);
    EXPECT_EQ(error_of(command(ADP_CMD_ROLLBACK)), ENOENT);
    EXPECT_EQ(error_of(command(ADP_CMD_SWITCH)), EINVAL) << "without a slot";
    EXPECT_EQ(error_of(run_slot(*genl_, "test", slot, std::vector<uint8_t>(ADPT_INPUTS - 1)).reply), EINVAL);
    EXPECT_EQ(error_of(run_slot(*genl_, "test", slot, std::vector<uint8_t>()).reply), EINVAL);
    EXPECT_EQ(
        error_of(run_slot(*genl_, "test", slot, std::vector<uint8_t>(ADPT_INPUTS * (ADP_RUN_MAX_INPUTS + 1))).reply),
        EINVAL);
    EXPECT_EQ(
        error_of(run_slot(*genl_, "test", slot, std::vector<uint8_t>(ADPT_INPUTS), 0, ADP_RUN_MAX_REPEAT + 1).reply),
        EINVAL);
    EXPECT_EQ(error_of(run_slot(*genl_, "test", slot, std::vector<uint8_t>(ADPT_INPUTS), ADP_RUN_COUNT_).reply),
              ERANGE);
    EXPECT_EQ(fingerprint(app()), before);
    const std::vector<uint8_t> most(ADPT_INPUTS * ADP_RUN_MAX_INPUTS, 9);
    const RunReply run = run_slot(*genl_, "test", slot, most);
    ASSERT_TRUE(run.reply.ok()) << run.reply.message;
    EXPECT_EQ(run.outputs, interpret_all(model, most));
}

// Not part of the suite: the core warns once, with a stack trace, and the suite takes any such for a failure. By hand:
// ADAPATH_TEST_NMI=1 vm_kmod_core_test --gtest_filter=*Nmi*. What in_nmi() looks at is set without an NMI's entry;
// QEMU's TCG has no counter that could raise a real one.
TEST_F(Core, NmiIsRefused) {
    if (test::environment("ADAPATH_TEST_NMI", 0) == 0) {
        GTEST_SKIP() << "leaves a warning in the kernel's log: set ADAPATH_TEST_NMI=1 to run it by hand";
    }
    const QuantModel model = test_model();
    install_and_switch(model, 1);
    ASSERT_EQ(driver_->bind(0, 0), 0);
    const std::vector<uint8_t> input = random_input();
    const App before = app();
    EXPECT_EQ(ask(input, ADPT_NMI_LIKE).result, -EOPNOTSUPP);
    EXPECT_EQ(ask(input, ADPT_NMI_LIKE, 0).result, -EOPNOTSUPP);
    EXPECT_EQ(app().stats, before.stats) << "counted though refused";
    expect_answer(ask(input), model, input, 1);
}

// ---- what a query costs ----

// Not held to a figure: under TCG it is a ratio at best. The empty program's is the core's own share.
TEST_F(Core, CostOfAQueryAgainstTheEmptyProgram) {
    const std::vector<uint8_t> input = random_input();
    const auto cost = [&](const char* what) {
        ASSERT_EQ(driver_->vectors(0, 1, 1, input, {0, 0}), 0);
        adpt_bench bench{};
        bench.repeat = 20000;
        ASSERT_EQ(driver_->request(ADPT_IOC_BENCH, &bench), 0);
        fmt::print("{:40} {:8.1f} ns a query (the loop alone {:.2f})\n", what,
                   static_cast<double>(bench.query_ns) / bench.repeat,
                   static_cast<double>(bench.empty_ns) / bench.repeat);
        EXPECT_GT(bench.query_ns, 0U);
    };
    InstallRequest request = request_for("test", ADPT_SCHEMA, constant_model(ADPT_EMPTY_OUTPUT), 1);
    request.program_hash = ADPT_EMPTY_HASH;
    const Reply reply = genl_->call(ADP_CMD_INSTALL, install_attributes(request));
    ASSERT_TRUE(reply.ok()) << reply.message;
    ASSERT_TRUE(slot_command(ADP_CMD_SWITCH, installed_slot(reply).value()).ok());
    cost("adp_query(), empty program");
    install_and_switch(
        test::random_model(test::network_of({8, 32, 16, 2}, {Activation::tanh, Activation::tanh, Activation::identity}),
                           random_),
        2);
    cost("adp_query(), 8-32-16-2, as chosen");
}

}  // namespace
}  // namespace adapath::kmod_test

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    testing::AddGlobalTestEnvironment(new adapath::kmod_test::Modules);
    return RUN_ALL_TESTS();
}
