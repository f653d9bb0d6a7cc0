// The messages of the family "adapath", there and back without a kernel: what a request holds as libnl reads it, what a
// reply that libnl wrote becomes, and what a refusal says.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <numeric>

#include <adapath/layout.h>

#include "userspace/kmod_backend/control.h"
#include "userspace/kmod_backend/messages.h"

namespace adapath::kmod {
namespace {

constexpr int kFamily = 0x21;

std::array<nlattr*, ADP_A_COUNT_> attributes_of(const Message& message) {
    std::array<nlattr*, ADP_A_COUNT_> at = {};
    EXPECT_EQ(genlmsg_parse(nlmsg_hdr(message.get()), 0, at.data(), ADP_A_MAX, nullptr), 0);
    return at;
}
uint8_t command_of(const Message& message) { return genlmsg_hdr(nlmsg_hdr(message.get()))->cmd; }

TEST(KmodMessages, AnInstallHoldsAllThatWasAskedFor) {
    const std::vector<LayerShape> layers = {
        {30, 32, Activation::tanh}, {32, 16, Activation::sigmoid}, {16, 1, Activation::identity}};
    // As much as a slot holds: the message and each length in it have room for that.
    std::vector<uint8_t> params(ADP_PARAMS_BYTES);
    std::iota(params.begin(), params.end(), 1);
    InstallRequest wanted;
    wanted.generation = 7;
    wanted.hash = 0x0123456789abcdef;
    wanted.program_hash = 0xfedcba9876543210;
    wanted.schema = 3;
    wanted.explore_q16 = 6554;
    wanted.layers = layers;
    wanted.params = params;
    const Message message = install_request(kFamily, "cc", wanted);
    ASSERT_NE(message, nullptr);
    EXPECT_EQ(nlmsg_hdr(message.get())->nlmsg_type, kFamily);
    EXPECT_EQ(command_of(message), ADP_CMD_INSTALL);
    EXPECT_EQ(genlmsg_hdr(nlmsg_hdr(message.get()))->version, ADP_GENL_VERSION);
    const auto at = attributes_of(message);
    EXPECT_STREQ(nla_get_string(at[ADP_A_APP]), "cc");
    EXPECT_EQ(nla_get_u32(at[ADP_A_GENERATION]), 7U);
    EXPECT_EQ(nla_get_u64(at[ADP_A_HASH]), wanted.hash);
    EXPECT_EQ(nla_get_u64(at[ADP_A_PROGRAM_HASH]), wanted.program_hash);
    EXPECT_EQ(nla_get_u32(at[ADP_A_SCHEMA]), 3U);
    EXPECT_EQ(nla_get_u32(at[ADP_A_EXPLORE]), 6554U);
    ASSERT_EQ(static_cast<size_t>(nla_len(at[ADP_A_PARAMS])), params.size());
    EXPECT_EQ(std::memcmp(nla_data(at[ADP_A_PARAMS]), params.data(), params.size()), 0);
    // A kernel that checks strictly takes a nest for one only by its flag.
    EXPECT_TRUE(nla_is_nested(at[ADP_A_LAYERS]));
    size_t l = 0;
    int left = nla_len(at[ADP_A_LAYERS]);
    for (auto* layer = static_cast<nlattr*>(nla_data(at[ADP_A_LAYERS])); nla_ok(layer, left);
         layer = nla_next(layer, &left)) {
        ASSERT_LT(l, layers.size());
        EXPECT_EQ(nla_type(layer), ADP_A_LAYER);
        EXPECT_TRUE(nla_is_nested(layer));
        std::array<nlattr*, ADP_A_COUNT_> in = {};
        ASSERT_EQ(nla_parse_nested(in.data(), ADP_A_MAX, layer, nullptr), 0);
        EXPECT_EQ(nla_get_u32(in[ADP_A_INPUTS]), layers[l].inputs);
        EXPECT_EQ(nla_get_u32(in[ADP_A_OUTPUTS]), layers[l].outputs);
        EXPECT_EQ(nla_get_u32(in[ADP_A_ACTIVATION]), static_cast<uint32_t>(layers[l].activation));
        ++l;
    }
    EXPECT_EQ(l, layers.size());
}

TEST(KmodMessages, EachCommandHoldsWhatItNeeds) {
    EXPECT_EQ(attributes_of(request(kFamily, ADP_CMD_GET_APP, ""))[ADP_A_APP], nullptr);
    const auto cleared = attributes_of(request(kFamily, ADP_CMD_CLEAR, "cc"));
    EXPECT_STREQ(nla_get_string(cleared[ADP_A_APP]), "cc");

    const Message switched = slot_request(kFamily, ADP_CMD_SWITCH, "cc", 5);
    EXPECT_EQ(command_of(switched), ADP_CMD_SWITCH);
    EXPECT_EQ(nla_get_u32(attributes_of(switched)[ADP_A_SLOT]), 5U);

    const Message explored = explore_request(kFamily, "cc", 2, 65536);
    EXPECT_EQ(command_of(explored), ADP_CMD_SET_EXPLORE);
    EXPECT_EQ(nla_get_u32(attributes_of(explored)[ADP_A_EXPLORE]), 65536U);

    const Message configured = configure_request(kFamily, "cc", 4096, ADP_CONSISTENT_FLOW);
    EXPECT_EQ(command_of(configured), ADP_CMD_CONFIGURE);
    EXPECT_EQ(nla_get_u32(attributes_of(configured)[ADP_A_WAKEUP_BYTES]), 4096U);
    EXPECT_EQ(nla_get_u32(attributes_of(configured)[ADP_A_CONSISTENCY]), uint32_t{ADP_CONSISTENT_FLOW});
}

TEST(KmodMessages, ATrialAndAnObjectiveHoldWhatTheyNeed) {
    const Message trial = canary_request(kFamily, "cc", 3, 16384);
    EXPECT_EQ(command_of(trial), ADP_CMD_CANARY);
    EXPECT_STREQ(nla_get_string(attributes_of(trial)[ADP_A_APP]), "cc");
    EXPECT_EQ(nla_get_u32(attributes_of(trial)[ADP_A_SLOT]), 3U);
    EXPECT_EQ(nla_get_u32(attributes_of(trial)[ADP_A_SHARE]), 16384U);

    const std::array<uint32_t, ADP_OBJECTIVES> weights = {65536, 1, 2, 0};
    const Message objective = objective_request(kFamily, "cc", weights);
    EXPECT_EQ(command_of(objective), ADP_CMD_CONFIGURE);
    nlattr* sent = attributes_of(objective)[ADP_A_OBJECTIVE];
    ASSERT_NE(sent, nullptr);
    ASSERT_EQ(static_cast<size_t>(nla_len(sent)), sizeof(weights));
    EXPECT_EQ(std::memcmp(nla_data(sent), weights.data(), sizeof(weights)), 0);
    EXPECT_EQ(attributes_of(objective)[ADP_A_WAKEUP_BYTES], nullptr) << "what is not named stays";

    // And back: what the module says of both.
    Message reply = request(kFamily, ADP_CMD_GET_APP, "cc");
    nla_put_u32(reply.get(), ADP_A_CANARY, 3);
    nla_put_u32(reply.get(), ADP_A_SHARE, 16384);
    nla_put(reply.get(), ADP_A_OBJECTIVE, sizeof(weights), weights.data());
    const Result<AppState> app = parse_app(nlmsg_hdr(reply.get()));
    ASSERT_TRUE(app.ok()) << app.error().message;
    EXPECT_EQ(app->canary, 3U);
    EXPECT_EQ(app->canary_share_q16, 16384U);
    EXPECT_EQ(app->objective_q16, weights);
    const Result<AppState> without = parse_app(nlmsg_hdr(request(kFamily, ADP_CMD_GET_APP, "cc").get()));
    ASSERT_TRUE(without.ok());
    EXPECT_EQ(without->canary, ADP_SLOT_NONE);
}

TEST(KmodMessages, ARunHoldsEveryInputAndNeverMoreThanTheKernelTakes) {
    for (const size_t width : {size_t{1}, size_t{30}, size_t{255}, size_t{256}}) {
        const size_t count = run_inputs_per_request(width);
        ASSERT_GE(count, 1U);
        ASSERT_LE(count, size_t{ADP_RUN_MAX_INPUTS});
        std::vector<std::vector<uint8_t>> inputs(count, std::vector<uint8_t>(width));
        for (size_t i = 0; i < count; ++i)
            for (size_t j = 0; j < width; ++j) inputs[i][j] = static_cast<uint8_t>(i * 31 + j);
        const Message message = run_request(kFamily, "cc", 1, ADP_RUN_AVX2, inputs);
        const auto at = attributes_of(message);
        EXPECT_EQ(nla_get_u32(at[ADP_A_IMPLEMENTATION]), uint32_t{ADP_RUN_AVX2});
        ASSERT_EQ(static_cast<size_t>(nla_len(at[ADP_A_RUN_INPUTS])), count * width);
        const auto* data = static_cast<const uint8_t*>(nla_data(at[ADP_A_RUN_INPUTS]));
        for (size_t i = 0; i < count; ++i) ASSERT_EQ(std::memcmp(data + i * width, inputs[i].data(), width), 0);
    }
}

// What the module says of an app, written as it does.
Message app_reply(const adp_stats& stats, int stats_bytes, bool damage_slot = false) {
    Message message = request(kFamily, ADP_CMD_GET_APP, "cc");
    nl_msg* m = message.get();
    nla_put_string(m, ADP_A_INTERFACE, "adapath_k");
    nla_put_string(m, ADP_A_DEVICE, "adapath/cc");
    nla_put_u32(m, ADP_A_ABI_VERSION, 9);
    nla_put_u32(m, ADP_A_SCHEMA, 2);
    nla_put_u32(m, ADP_A_INPUTS, 30);
    nla_put_u32(m, ADP_A_OUTPUTS, 1);
    nla_put_u32(m, ADP_A_RECORD_BYTES, 144);
    nla_put_u32(m, ADP_A_WAKEUP_BYTES, 65536);
    nla_put_u32(m, ADP_A_CONSISTENCY, ADP_CONSISTENT_FLOW);
    nla_put_u32(m, ADP_A_ACTIVE, 3);
    nla_put_u32(m, ADP_A_STANDBY, ADP_SLOT_NONE);
    nla_put(m, ADP_A_STATS, stats_bytes, &stats);
    nlattr* slots = nla_nest_start(m, ADP_A_SLOTS);
    for (uint32_t s : {3U, 6U}) {
        nlattr* slot = nla_nest_start(m, ADP_A_SLOT_INFO);
        nla_put_u32(m, ADP_A_SLOT, damage_slot ? 99 : s);
        nla_put_u32(m, ADP_A_STATE, s == 3 ? ADP_SLOT_ACTIVE : ADP_SLOT_READY);
        nla_put_u32(m, ADP_A_GENERATION, 10 + s);
        nla_put_u64(m, ADP_A_HASH, 0x1122334455667788);
        nla_put_u64(m, ADP_A_PROGRAM_HASH, 0x99);
        nla_put_u32(m, ADP_A_EXPLORE, 100);
        nla_put_u64(m, ADP_A_BOUND, 4);
        nla_put_u32(m, ADP_A_PARAMS_BYTES, 5000);
        nla_put_u32(m, ADP_A_IMPLEMENTATION, ADP_RUN_VNNI);
        nlattr* all = nla_nest_start(m, ADP_A_IMPLEMENTATIONS);
        for (uint32_t how : {ADP_RUN_GENERIC, ADP_RUN_VNNI}) {
            nlattr* one = nla_nest_start(m, ADP_A_MEASURED);
            nla_put_u32(m, ADP_A_IMPLEMENTATION, how);
            nla_put_u64(m, ADP_A_PICOSECONDS, how == ADP_RUN_GENERIC ? 800'000 : 141'000);
            nla_nest_end(m, one);
        }
        nla_nest_end(m, all);
        nlattr* layers = nla_nest_start(m, ADP_A_LAYERS);
        nlattr* layer = nla_nest_start(m, ADP_A_LAYER);
        nla_put_u32(m, ADP_A_INPUTS, 30);
        nla_put_u32(m, ADP_A_OUTPUTS, 1);
        nla_put_u32(m, ADP_A_ACTIVATION, ADP_TANH);
        nla_nest_end(m, layer);
        nla_nest_end(m, layers);
        nla_nest_end(m, slot);
    }
    nla_nest_end(m, slots);
    return message;
}

TEST(KmodMessages, AnAppIsReadWhole) {
    adp_stats stats = {};
    stats.decisions = 11;
    stats.samples_lost = 12;
    stats.acks = 13;
    const Message reply = app_reply(stats, sizeof(stats));
    Result<AppState> app = parse_app(nlmsg_hdr(reply.get()));
    ASSERT_TRUE(app) << app.error().message;
    EXPECT_EQ(app->name, "cc");
    EXPECT_EQ(app->interface, "adapath_k");
    EXPECT_EQ(app->device, "adapath/cc");
    EXPECT_EQ(app->abi_version, 9U);
    EXPECT_EQ(app->schema, 2U);
    EXPECT_EQ(app->inputs, 30U);
    EXPECT_EQ(app->record_bytes, 144U);
    EXPECT_EQ(app->wakeup_bytes, 65536U);
    EXPECT_EQ(app->consistency, uint32_t{ADP_CONSISTENT_FLOW});
    EXPECT_EQ(app->active, 3U);
    EXPECT_EQ(app->standby, ADP_SLOT_NONE);
    EXPECT_EQ(app->stats.decisions, 11U);
    EXPECT_EQ(app->stats.samples_lost, 12U);
    EXPECT_EQ(app->stats.acks, 13U);
    ASSERT_EQ(app->slots.size(), 2U);
    const KernelSlot& slot = app->slots[0];
    EXPECT_EQ(slot.slot, 3U);
    EXPECT_EQ(slot.state, uint32_t{ADP_SLOT_ACTIVE});
    EXPECT_EQ(app->slots[1].state, uint32_t{ADP_SLOT_READY});
    EXPECT_EQ(slot.generation, 13U);
    EXPECT_EQ(slot.hash, 0x1122334455667788U);
    EXPECT_EQ(slot.program_hash, 0x99U);
    EXPECT_EQ(slot.explore_q16, 100U);
    EXPECT_EQ(slot.bound, 4U);
    EXPECT_EQ(slot.params_bytes, 5000U);
    EXPECT_EQ(slot.implementation, uint32_t{ADP_RUN_VNNI});
    ASSERT_EQ(slot.measured.size(), 2U);
    EXPECT_EQ(slot.measured[1].implementation, uint32_t{ADP_RUN_VNNI});
    EXPECT_EQ(slot.measured[1].picoseconds, 141'000U);
    ASSERT_EQ(slot.layers.size(), 1U);
    EXPECT_EQ(slot.layers[0], (LayerShape{30, 1, Activation::tanh}));
}

TEST(KmodMessages, ANewerModulesCountersAndAnOldersAreRead) {
    struct {
        adp_stats known;
        uint64_t more = 77;
    } newer = {};
    newer.known.acks = 5;
    Message reply = app_reply(newer.known, sizeof(newer));
    Result<AppState> app = parse_app(nlmsg_hdr(reply.get()));
    ASSERT_TRUE(app);
    EXPECT_EQ(app->stats.acks, 5U);
    newer.known.decisions = 6;
    reply = app_reply(newer.known, 8);
    app = parse_app(nlmsg_hdr(reply.get()));
    ASSERT_TRUE(app);
    EXPECT_EQ(app->stats.decisions, 6U);
    EXPECT_EQ(app->stats.acks, 0U);
}

TEST(KmodMessages, RepliesThatMakeNoSenseAreErrors) {
    adp_stats stats = {};
    const Message slot99 = app_reply(stats, sizeof(stats), true);
    EXPECT_FALSE(parse_app(nlmsg_hdr(slot99.get()))) << "slot 99";
    // A number cut short.
    Message cut = request(kFamily, ADP_CMD_INSTALL, "");
    const uint8_t byte = 1;
    nla_put(cut.get(), ADP_A_SLOT, 1, &byte);
    EXPECT_FALSE(parse_slot(nlmsg_hdr(cut.get())));
    const Message none = request(kFamily, ADP_CMD_INSTALL, "");
    EXPECT_FALSE(parse_slot(nlmsg_hdr(none.get())));
    const Message good = slot_request(kFamily, ADP_CMD_INSTALL, "", 4);
    Result<uint32_t> slot = parse_slot(nlmsg_hdr(good.get()));
    ASSERT_TRUE(slot);
    EXPECT_EQ(*slot, 4U);
}

TEST(KmodMessages, OutputsAreRead) {
    Message message = request(kFamily, ADP_CMD_RUN, "");
    const int32_t outputs[] = {-1, 65536, INT32_MIN};
    nla_put(message.get(), ADP_A_RUN_OUTPUTS, sizeof(outputs), outputs);
    nla_put_u32(message.get(), ADP_A_IMPLEMENTATION, ADP_RUN_GENERATED);
    nla_put_u64(message.get(), ADP_A_ELAPSED_NS, 1234);
    Result<RunReply> run = parse_run(nlmsg_hdr(message.get()));
    ASSERT_TRUE(run);
    EXPECT_EQ(run->outputs, (std::vector<int32_t>{-1, 65536, INT32_MIN}));
    EXPECT_EQ(run->implementation, uint32_t{ADP_RUN_GENERATED});
    EXPECT_EQ(run->elapsed_ns, 1234U);
}

// An NLMSG_ERROR as the kernel writes it: the error, as much of the request as it repeats, then its words about it.
class ErrorMessage {
public:
    ErrorMessage(const Message& sent, int error, bool capped) {
        const nlmsghdr* request = nlmsg_hdr(sent.get());
        nlmsgerr body = {};
        body.error = -error;
        body.msg = *request;
        bytes_.resize(NLMSG_HDRLEN + sizeof(nlmsgerr));
        std::memcpy(bytes_.data() + NLMSG_HDRLEN, &body, sizeof(body));
        if (!capped) {
            const auto* payload = reinterpret_cast<const uint8_t*>(request) + NLMSG_HDRLEN;
            bytes_.insert(bytes_.end(), payload, payload + NLMSG_ALIGN(request->nlmsg_len) - NLMSG_HDRLEN);
        }
        header()->nlmsg_type = NLMSG_ERROR;
        header()->nlmsg_flags = capped ? NLM_F_CAPPED : 0;
    }
    ErrorMessage& attribute(uint16_t type, const void* data, size_t length) {
        header()->nlmsg_flags |= NLM_F_ACK_TLVS;
        nlattr head = {static_cast<uint16_t>(NLA_HDRLEN + length), type};
        const auto* raw = reinterpret_cast<const uint8_t*>(&head);
        bytes_.insert(bytes_.end(), raw, raw + sizeof(head));
        const auto* from = static_cast<const uint8_t*>(data);
        bytes_.insert(bytes_.end(), from, from + length);
        bytes_.resize((bytes_.size() + 3) / 4 * 4);
        return *this;
    }
    const nlmsghdr* done() {
        header()->nlmsg_len = static_cast<uint32_t>(bytes_.size());
        return header();
    }

private:
    nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_.data()); }
    std::vector<uint8_t> bytes_;
};

TEST(KmodMessages, ARefusalSaysWhatTheKernelSaid) {
    const Message sent = slot_request(kFamily, ADP_CMD_SWITCH, "cc", 5);
    // complete_msg() would do this on sending.
    const uint32_t offset = static_cast<uint32_t>(reinterpret_cast<const char*>(attributes_of(sent)[ADP_A_SLOT]) -
                                                  reinterpret_cast<const char*>(nlmsg_hdr(sent.get())));
    const char text[] = "that slot is draining";
    for (const bool capped : {false, true}) {
        ErrorMessage message(sent, EBUSY, capped);
        message.attribute(NLMSGERR_ATTR_MSG, text, sizeof(text)).attribute(NLMSGERR_ATTR_OFFS, &offset, sizeof(offset));
        const Refusal refusal = parse_refusal(message.done(), nlmsg_hdr(sent.get()));
        EXPECT_EQ(refusal.error, EBUSY);
        EXPECT_EQ(refusal.message, text);
        EXPECT_EQ(refusal.attribute, "slot");
        const std::string error = refused(ADP_CMD_SWITCH, "cc", refusal).message;
        for (const char* word : {"SWITCH", "cc", text, "slot"}) EXPECT_NE(error.find(word), std::string::npos) << error;
    }
}

TEST(KmodMessages, ARefusalWithoutWordsNamesTheError) {
    const Message sent = request(kFamily, ADP_CMD_CLEAR, "cc");
    ErrorMessage silent(sent, ENOENT, true);
    Refusal refusal = parse_refusal(silent.done(), nlmsg_hdr(sent.get()));
    EXPECT_EQ(refusal.error, ENOENT);
    EXPECT_TRUE(refusal.message.empty());
    EXPECT_NE(refused(ADP_CMD_CLEAR, "cc", refusal).message.find(std::strerror(ENOENT)), std::string::npos);

    ErrorMessage missing(sent, EINVAL, true);
    const uint32_t type = ADP_A_PARAMS;
    missing.attribute(NLMSGERR_ATTR_MISS_TYPE, &type, sizeof(type));
    refusal = parse_refusal(missing.done(), nlmsg_hdr(sent.get()));
    EXPECT_EQ(refusal.attribute, "params");

    ErrorMessage forbidden(sent, EPERM, true);
    refusal = parse_refusal(forbidden.done(), nlmsg_hdr(sent.get()));
    EXPECT_NE(refused(ADP_CMD_CLEAR, "cc", refusal).message.find("CAP_NET_ADMIN"), std::string::npos);
}

// An offset past the request, or attributes cut short: no reading where nothing is.
TEST(KmodMessages, ADamagedRefusalIsStillOne) {
    const Message sent = request(kFamily, ADP_CMD_CLEAR, "cc");
    ErrorMessage far(sent, EINVAL, true);
    const uint32_t offset = 1 << 20;
    far.attribute(NLMSGERR_ATTR_OFFS, &offset, sizeof(offset));
    Refusal refusal = parse_refusal(far.done(), nlmsg_hdr(sent.get()));
    EXPECT_EQ(refusal.error, EINVAL);
    EXPECT_TRUE(refusal.attribute.empty());

    ErrorMessage shortened(sent, EINVAL, true);
    const uint8_t one = 1;
    shortened.attribute(NLMSGERR_ATTR_OFFS, &one, 1);
    EXPECT_EQ(parse_refusal(shortened.done(), nlmsg_hdr(sent.get())).error, EINVAL);

    nlmsghdr empty = {};
    empty.nlmsg_len = NLMSG_HDRLEN;
    empty.nlmsg_type = NLMSG_ERROR;
    EXPECT_NE(parse_refusal(&empty, nullptr).error, 0);
}

// The names that errors use; a number that netlink.h adds must get one.
TEST(KmodMessages, EveryNumberHasAName) {
    for (uint8_t c = 1; c <= ADP_CMD_MAX; ++c) EXPECT_STRNE(command_name(c), "?");
    for (int a = 1; a <= ADP_A_MAX; ++a) EXPECT_STRNE(attribute_name(a), "?");
    EXPECT_STREQ(command_name(ADP_CMD_RUN), "RUN");
    EXPECT_STREQ(command_name(ADP_CMD_SET_EXPLORE), "SET_EXPLORE");
    EXPECT_STREQ(attribute_name(ADP_A_PARAMS), "params");
    EXPECT_STREQ(attribute_name(ADP_A_RUN_INPUTS), "run_inputs");
    EXPECT_STREQ(attribute_name(ADP_A_ABI_VERSION), "abi_version");
    EXPECT_STREQ(implementation_name(ADP_RUN_VNNI), "avx512-vnni");
    EXPECT_STREQ(command_name(200), "?");
    EXPECT_STREQ(attribute_name(-1), "?");
    EXPECT_STREQ(implementation_name(99), "unknown");
}

}  // namespace
}  // namespace adapath::kmod
