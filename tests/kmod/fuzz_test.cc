// A structure-aware fuzzer of the netlink family: valid messages of every command, made wrong in one to four ways, and
// raw garbage, for a bounded time. What is refused must have changed nothing and say why; what decides must go on
// giving the interpreter's bits. The kernel's log is the suite's to check. Only for a VM (tests/vm).
//
//   vm_netlink_fuzz [SECONDS [SEED]]    (default: ADAPATH_FUZZ_SECONDS or 20; ADAPATH_SEED or a random one, printed)
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/codegen/clang_fixtures.h"
#include "tests/kmod/driver.h"

namespace adapath::kmod_test {
namespace {

uint64_t run_seconds = 20;
uint64_t run_seed = 0;

using Random = std::mt19937_64;
using Clock = std::chrono::steady_clock;

uint64_t below(Random& random, uint64_t n) { return random() % n; }
bool once_in(Random& random, uint64_t n) { return random() % n == 0; }

// An attribute as a tree, which may say of itself what is not so.
struct Node {
    uint16_t type = 0;
    std::vector<uint8_t> data;
    std::vector<Node> children;
    bool nest = false;  // its content is the children, not the data
    bool flag = true;   // a nest says that it is one
    int lie = -1;       // claimed length, header included; -1: the truth
};

void serialise(const Node& node, std::vector<uint8_t>& out) {
    std::vector<uint8_t> content = node.data;
    if (node.nest) {
        content.clear();
        for (const Node& child : node.children) {
            serialise(child, content);
        }
    }
    const auto length = static_cast<uint16_t>(node.lie >= 0 ? node.lie : static_cast<int>(NLA_HDRLEN + content.size()));
    const auto type = static_cast<uint16_t>(node.type | (node.nest && node.flag ? NLA_F_NESTED : 0));
    for (const uint16_t half : {length, type}) {
        out.push_back(static_cast<uint8_t>(half));
        out.push_back(static_cast<uint8_t>(half >> 8));
    }
    out.insert(out.end(), content.begin(), content.end());
    out.resize((out.size() + 3) & ~size_t{3});
}

Node binary(uint16_t type, std::span<const uint8_t> bytes) {
    Node node;
    node.type = type;
    node.data.assign(bytes.begin(), bytes.end());
    return node;
}
template <typename T>
Node number(uint16_t type, T value) {
    return binary(type, {reinterpret_cast<const uint8_t*>(&value), sizeof(value)});
}
std::vector<uint8_t> objective_bytes(const std::array<uint32_t, ADP_OBJECTIVES>& weights) {
    std::vector<uint8_t> bytes(sizeof(weights));
    memcpy(bytes.data(), weights.data(), bytes.size());
    return bytes;
}
Node text(uint16_t type, const std::string& value) {
    return binary(type, {reinterpret_cast<const uint8_t*>(value.c_str()), value.size() + 1});
}

// A valid message's attributes from an encoded one, so that there is one definition of what is valid.
std::vector<Node> tree_of(std::span<const uint8_t> bytes) {
    std::vector<Node> out;
    for (const Attribute& a : parse_attributes(bytes)) {
        Node node = binary(a.type, a.value);
        if (a.type == ADP_A_LAYERS || a.type == ADP_A_LAYER) {
            node.nest = true;
            node.children = tree_of(a.value);
            node.data.clear();
        }
        out.push_back(std::move(node));
    }
    return out;
}

struct Message {
    uint8_t command = 0;
    uint8_t version = ADP_GENL_VERSION;
    uint16_t flags = 0;
    std::vector<Node> nodes;
    std::vector<uint8_t> trailing;

    [[nodiscard]] std::vector<uint8_t> bytes() const {
        std::vector<uint8_t> out{command, version, 0, 0};
        for (const Node& node : nodes) {
            serialise(node, out);
        }
        out.insert(out.end(), trailing.begin(), trailing.end());
        return out;
    }
};

class Mutator {
public:
    explicit Mutator(Random& random) : random_(random) {}

    void mutate(Message& message) {
        switch (below(random_, 24)) {
            case 0:
                message.command = static_cast<uint8_t>(below(random_, ADP_CMD_MAX + 4));
                break;
            case 1:
                message.version = static_cast<uint8_t>(random_());
                break;
            case 2:
                message.flags = static_cast<uint16_t>(random_() & 0xff00);
                break;
            case 3:
                message.trailing.resize(1 + below(random_, 12));
                for (uint8_t& byte : message.trailing) {
                    byte = static_cast<uint8_t>(random_());
                }
                break;
            case 4:
                message.nodes.push_back(odd_node());
                break;
            default:
                mutate_one(message.nodes);
                break;
        }
    }

    // One to three words of a packed block.
    void mutate_params(std::vector<uint8_t>& data) {
        const size_t words = data.size() / 8;
        for (uint64_t n = 1 + below(random_, 3); n > 0; --n) {
            uint8_t* word = data.data() + below(random_, words) * 8;
            uint64_t value = 0;
            memcpy(&value, word, 8);
            switch (below(random_, 6)) {
                case 0:
                    value ^= uint64_t{1} << below(random_, 64);
                    break;
                case 1:
                    value += once_in(random_, 2) ? 1 : ~uint64_t{0};
                    break;
                case 2:
                    value = random_();
                    break;
                case 3:
                    value = once_in(random_, 2) ? ~uint64_t{0} : uint64_t{1} << 63;
                    break;
                case 4: {
                    uint8_t* other = data.data() + below(random_, words) * 8;
                    std::swap_ranges(word, word + 8, other);
                    memcpy(&value, word, 8);
                    break;
                }
                default:
                    value = 0;
                    break;
            }
            memcpy(word, &value, 8);
        }
    }

private:
    // Somewhere in the tree.
    void mutate_one(std::vector<Node>& nodes) {
        if (nodes.empty()) {
            nodes.push_back(odd_node());
            return;
        }
        const size_t at = below(random_, nodes.size());
        if (nodes[at].nest && !nodes[at].children.empty() && !once_in(random_, 4)) {
            mutate_one(nodes[at].children);
            return;
        }
        switch (below(random_, 14)) {
            case 0:
                nodes.erase(nodes.begin() + static_cast<ptrdiff_t>(at));
                break;
            case 1: {
                const Node copy = nodes[at];
                nodes.insert(nodes.begin() + static_cast<ptrdiff_t>(at),
                             1 + below(random_, once_in(random_, 8) ? 200 : 3), copy);
                break;
            }
            case 2:
                std::swap(nodes[at], nodes[below(random_, nodes.size())]);
                break;
            case 3:
                nodes[at].type = static_cast<uint16_t>(below(random_, ADP_A_MAX + 6));
                break;
            case 4:
                nodes[at].type = static_cast<uint16_t>(random_());
                break;
            case 5:
                nodes[at].flag = !nodes[at].flag;
                break;
            case 6: {
                const int truth = static_cast<int>(NLA_HDRLEN + nodes[at].data.size());
                const int lies[] = {0, 1, 3, 4, 5, 7, 8, truth - 1, truth + 1, truth + 4, truth + 400, 65535};
                nodes[at].lie = std::clamp(lies[below(random_, std::size(lies))], 0, 65535);
                break;
            }
            case 7: {  // one level more
                Node outer;
                outer.type = once_in(random_, 2) ? nodes[at].type : static_cast<uint16_t>(ADP_A_LAYERS);
                outer.nest = true;
                outer.children = {nodes[at]};
                for (uint64_t depth = once_in(random_, 4) ? below(random_, 60) : 0; depth > 0; --depth) {
                    Node more;
                    more.type = outer.type;
                    more.nest = true;
                    more.children = {outer};
                    outer = more;
                }
                nodes[at] = outer;
                break;
            }
            case 8:
                if (nodes[at].nest) {  // one level less
                    const std::vector<Node> children = nodes[at].children;
                    nodes.erase(nodes.begin() + static_cast<ptrdiff_t>(at));
                    nodes.insert(nodes.begin() + static_cast<ptrdiff_t>(at), children.begin(), children.end());
                    break;
                }
                [[fallthrough]];
            default:
                mutate_content(nodes[at]);
                break;
        }
    }

    void mutate_content(Node& node) {
        std::vector<uint8_t>& data = node.data;
        switch (below(random_, 6)) {
            case 0:
                data.resize(below(random_, data.size() + 1));
                break;
            case 1:
                data.resize(data.size() + 1 + below(random_, once_in(random_, 10) ? 60000 : 16));
                break;
            case 2:
                boundary(node);
                break;
            default:
                if (node.type == ADP_A_PARAMS && data.size() >= 8) {
                    mutate_params(data);
                } else if (node.type == ADP_A_APP) {
                    mutate_name(data);
                } else {
                    boundary(node);
                }
        }
        if (data.size() > 65000) {
            data.resize(65000);
        }
    }

    void boundary(Node& node) {
        static const uint64_t values[] = {0,
                                          1,
                                          2,
                                          3,
                                          4,
                                          7,
                                          8,
                                          9,
                                          15,
                                          16,
                                          255,
                                          256,
                                          257,
                                          65535,
                                          65536,
                                          65537,
                                          100000,
                                          100001,
                                          131072,
                                          1 << 20,
                                          0x7fffffff,
                                          0x80000000,
                                          0xffffffff,
                                          ~uint64_t{0},
                                          uint64_t{1} << 63,
                                          uint64_t{1} << 32};
        uint64_t value = values[below(random_, std::size(values))];
        // 100,000 runs are allowed and take the emulated machine a second: not each time.
        if (node.type == ADP_A_REPEAT && value > 1000 && value <= ADP_RUN_MAX_REPEAT && !once_in(random_, 50)) {
            value = 3;
        }
        // Each hash that is new to the kernel is a modprobe.
        if (node.type == ADP_A_PROGRAM_HASH && !once_in(random_, 20)) {
            value = once_in(random_, 2) ? ADPT_EMPTY_HASH : 1;
        }
        if (node.data.size() < 4) {
            node.data.resize(4);
        }
        const size_t width = node.data.size() >= 8 ? 8 : 4;
        const size_t at = node.data.size() > 8 ? below(random_, node.data.size() / 8) * 8 : 0;
        memcpy(node.data.data() + at, &value, std::min(width, node.data.size() - at));
    }

    void mutate_name(std::vector<uint8_t>& data) {
        static const std::string names[] = {
            "",        "other",  "cc",  "nobody", "test\n",
            "../test", "%s%s%n", "tes", "test2",  "a name that is longer than any app's"};
        const std::string& name = names[below(random_, std::size(names))];
        data.assign(name.begin(), name.end());
        if (!once_in(random_, 4)) {
            data.push_back(0);
        }
    }

    Node odd_node() {
        Node node;
        node.type = static_cast<uint16_t>(below(random_, ADP_A_MAX + 3));
        node.data.resize(once_in(random_, 3) ? below(random_, 40) : 4 * below(random_, 3));
        for (uint8_t& byte : node.data) {
            byte = static_cast<uint8_t>(random_());
        }
        return node;
    }

    Random& random_;
};

class Fuzz : public testing::Test {
protected:
    void SetUp() override {
        const Status loaded = load_modules();
        ASSERT_TRUE(loaded) << loaded.error().message;
        Result<Genl> genl = Genl::open();
        ASSERT_TRUE(genl) << genl.error().message;
        genl_ = std::make_unique<Genl>(std::move(*genl));
        Result<Driver> driver = Driver::open();
        ASSERT_TRUE(driver) << driver.error().message;
        driver_ = std::make_unique<Driver>(std::move(*driver));
        adpt_app other = app_description("other", ADPT_INPUTS, ADPT_OUTPUTS);
        ASSERT_EQ(driver_->register_app(other), 0);
        do {  // with a table, too
            model_ = test::random_model(network_between(ADPT_INPUTS, ADPT_OUTPUTS, random_, 3, 12), random_);
        } while (model_.layers.size() < 2);
        inputs_ = telling_inputs(model_, 16, random_);
        want_ = interpret_all(model_, inputs_);
    }
    void TearDown() override {
        driver_.reset();
        if (genl_) {
            Attributes name;
            name.string(ADP_A_APP, "test");
            genl_->call(ADP_CMD_CLEAR, name);
            genl_.reset();
        }
        const Status unloaded = unload_modules();
        EXPECT_TRUE(unloaded) << unloaded.error().message;
    }

    // Both apps: our model active, the same once more as standby, one that is only installed.
    void reset_state() {
        for (const char* name : {"test", "other"}) {
            Attributes just_name;
            just_name.string(ADP_A_APP, name);
            ASSERT_TRUE(genl_->call(ADP_CMD_CLEAR, just_name).ok());
            Attributes behaviour = just_name;
            behaviour.u32(ADP_A_WAKEUP_BYTES, 4096)
                .u32(ADP_A_CONSISTENCY, ADP_CONSISTENT_DECISION)
                .bytes(ADP_A_OBJECTIVE, objective_bytes({0, 0, 0, 0}));
            ASSERT_TRUE(genl_->call(ADP_CMD_CONFIGURE, behaviour).ok());
            for (int n = 0; n < 3; ++n) {
                const Reply reply = genl_->call(
                    ADP_CMD_INSTALL, install_attributes(request_for(name, ADPT_SCHEMA, model_, ++generation_)));
                const std::optional<uint32_t> slot = installed_slot(reply);
                ASSERT_TRUE(slot) << reply.message;
                if (n < 2) {
                    ASSERT_TRUE(genl_->call(ADP_CMD_SWITCH, slot_attributes(name, *slot)).ok());
                    active_ = *slot;
                }
            }
        }
        state_ = state();
    }
    std::string state() {
        std::string out;
        for (const char* name : {"test", "other"}) {
            const Result<App> app = get_app(*genl_, name);
            EXPECT_TRUE(app) << app.error().message;
            out += app ? fingerprint(*app) : "";
        }
        return out;
    }
    // A valid message of any command.
    Message valid() {
        Message message;
        // Every other message an installation: there is most to get wrong in it.
        message.command =
            once_in(random_, 2) ? uint8_t{ADP_CMD_INSTALL} : static_cast<uint8_t>(1 + below(random_, ADP_CMD_MAX));
        const auto slot = static_cast<uint32_t>(once_in(random_, 3) ? below(random_, ADP_SLOTS) : active_);
        message.nodes = {text(ADP_A_APP, "test")};
        switch (message.command) {
            case ADP_CMD_GET_APP:
                message.flags = once_in(random_, 2) ? NLM_F_DUMP : 0;
                break;
            case ADP_CMD_GET_PROGRAMS:
                message.flags = NLM_F_DUMP;
                break;
            case ADP_CMD_INSTALL:
                message.nodes =
                    tree_of(install_attributes(request_for("test", ADPT_SCHEMA, model_, ++generation_)).data());
                break;
            case ADP_CMD_SWITCH:
            case ADP_CMD_DISCARD:
                message.nodes.push_back(number(ADP_A_SLOT, slot));
                break;
            case ADP_CMD_SET_EXPLORE:
                message.nodes.push_back(number(ADP_A_SLOT, slot));
                message.nodes.push_back(number(ADP_A_EXPLORE, static_cast<uint32_t>(below(random_, 65537))));
                break;
            case ADP_CMD_CONFIGURE:
                message.nodes.push_back(number(ADP_A_WAKEUP_BYTES, static_cast<uint32_t>(below(random_, 1 << 20))));
                message.nodes.push_back(number(ADP_A_CONSISTENCY, static_cast<uint32_t>(below(random_, 2))));
                message.nodes.push_back(binary(ADP_A_OBJECTIVE, objective_bytes({uint32_t{1} << 16, 5, 1 << 24, 0})));
                break;
            case ADP_CMD_CANARY:
                message.nodes.push_back(number(ADP_A_SLOT, slot));
                message.nodes.push_back(number(ADP_A_SHARE, static_cast<uint32_t>(1 + below(random_, 65536))));
                break;
            case ADP_CMD_RUN:
                message.nodes.push_back(number(ADP_A_SLOT, slot));
                message.nodes.push_back(binary(ADP_A_RUN_INPUTS, inputs_));
                message.nodes.push_back(
                    number(ADP_A_IMPLEMENTATION, static_cast<uint32_t>(below(random_, ADP_RUN_COUNT_))));
                message.nodes.push_back(number(ADP_A_REPEAT, uint32_t{2}));
                break;
            default:
                break;
        }
        return message;
    }
    // What is installed, by whatever message, gives the same bits however it is run; none of it may run wild.
    void expect_implementations_agree() {
        for (const char* name : {"test", "other"}) {
            const Result<App> app = get_app(*genl_, name);
            ASSERT_TRUE(app) << app.error().message;
            for (const auto& [slot, info] : app->slots) {
                const RunReply generic = run_slot(*genl_, name, slot, inputs_, ADP_RUN_GENERIC);
                ASSERT_TRUE(generic.reply.ok()) << generic.reply.message;
                for (const MeasuredRun& how : info.implementations) {
                    const RunReply run = run_slot(*genl_, name, slot, inputs_, how.implementation);
                    ASSERT_TRUE(run.reply.ok()) << run.reply.message;
                    ASSERT_EQ(run.outputs, generic.outputs)
                        << name << " slot " << slot << " implementation " << how.implementation;
                }
            }
        }
    }
    void expect_active_unharmed() {
        const RunReply run = run_slot(*genl_, "test", active_, inputs_);
        ASSERT_TRUE(run.reply.ok()) << run.reply.message;
        ASSERT_EQ(run.outputs, want_);
        adpt_query query{};
        query.flow = -1;
        const std::vector<uint8_t> input(inputs_.begin(), inputs_.begin() + ADPT_INPUTS);
        ASSERT_EQ(driver_->query(query, input), 0);
        ASSERT_EQ(query.result, 0);
        ASSERT_EQ(query.raw[0], want_[0]);
    }
    // The flow that was bound before all of it.
    void expect_flow_unharmed() {
        adpt_query query{};
        query.flow = 0;
        const std::vector<uint8_t> input(inputs_.begin(), inputs_.begin() + ADPT_INPUTS);
        ASSERT_EQ(driver_->query(query, input), 0);
        ASSERT_EQ(query.result, 0);
        ASSERT_EQ(query.generation, bound_generation_);
        ASSERT_EQ(query.raw[0], want_[0]);
    }
    // A message without its numbers: "layer 2 row 5: weight out of range: 300" -> "weight out of range".
    static std::string kind_of(std::string message) {
        if (message.rfind("layer ", 0) == 0 && message.find(": ") != std::string::npos) {
            message.erase(0, message.find(": ") + 2);
        }
        return message.substr(0, message.find(':'));
    }
    static std::string hex(std::span<const uint8_t> bytes) {
        std::string out;
        for (const uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 400))) {
            out += fmt::format("{:02x}", byte);
        }
        return out + (bytes.size() > 400 ? fmt::format("... ({} bytes)", bytes.size()) : "");
    }

    Random random_{run_seed};
    std::unique_ptr<Genl> genl_;
    std::unique_ptr<Driver> driver_;
    QuantModel model_;
    std::vector<uint8_t> inputs_;
    std::vector<int32_t> want_;
    uint32_t generation_ = 0;
    uint32_t active_ = 0;
    uint32_t bound_generation_ = 0;
    std::string state_;
};

TEST_F(Fuzz, HostileMessagesChangeNothingAndAreToldWhy) {
    fmt::print("seed {}: again with ADAPATH_SEED={}\n", run_seed, run_seed);
    reset_state();
    ASSERT_FALSE(HasFatalFailure());
    adpt_query first{};
    first.flow = -1;
    ASSERT_EQ(driver_->query(first, std::vector<uint8_t>(ADPT_INPUTS)), 0);
    bound_generation_ = first.generation;
    ASSERT_EQ(driver_->bind(0, 0), 0);
    state_ = state();

    Mutator mutator(random_);
    std::map<std::string, uint64_t> reasons;
    std::map<int, uint64_t> silent;  // refused without a reason, by command
    uint64_t sent = 0;
    uint64_t refused = 0;
    uint64_t accepted = 0;
    uint64_t garbage = 0;
    const auto end = Clock::now() + std::chrono::seconds(run_seconds);
    // A batch: until something was accepted, or 32 refusals.
    std::vector<std::vector<uint8_t>> batch;
    while (Clock::now() < end && !HasFailure()) {
        if (once_in(random_, 12)) {
            // A datagram of our family with a header that lies, or no sense in it at all.
            std::vector<uint8_t> datagram(once_in(random_, 4) ? below(random_, 40)
                                                              : NLMSG_HDRLEN + below(random_, 300));
            for (uint8_t& byte : datagram) {
                byte = static_cast<uint8_t>(random_());
            }
            if (datagram.size() >= NLMSG_HDRLEN) {
                nlmsghdr header{};
                memcpy(&header, datagram.data(), sizeof(header));
                header.nlmsg_len =
                    static_cast<uint32_t>(once_in(random_, 3) ? header.nlmsg_len % 600 : datagram.size());
                header.nlmsg_type = genl_->family();
                header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
                memcpy(datagram.data(), &header, sizeof(header));
            } else if (datagram.size() >= 6) {
                datagram[4] = datagram[5] = 0;
            }
            const std::optional<int> answer = genl_->send_datagram(datagram);
            garbage++;
            batch.push_back(datagram);
            if (answer == 0) {
                // Random bytes that make sense, as a dump does: not known what it was, so start anew.
                reset_state();
                batch.clear();
            }
            continue;
        }
        Message message = valid();
        if (message.command == ADP_CMD_INSTALL && once_in(random_, 2)) {
            // Parameters alone, or nothing but the first check ever sees them.
            mutator.mutate_params(message.nodes.back().data);
        } else {
            for (uint64_t n = below(random_, 5); n > 0; --n) {
                mutator.mutate(message);
            }
        }
        const std::vector<uint8_t> bytes = message.bytes();
        const Reply reply = genl_->send_raw(bytes, message.flags);
        if (!reply.sent) {
            ASSERT_EQ(reply.error, EMSGSIZE) << hex(bytes);  // larger than the socket's buffer
            continue;
        }
        sent++;
        ASSERT_NE(reply.error, ETIMEDOUT) << "no answer to " << hex(bytes);
        batch.push_back(bytes);
        if (reply.ok()) {
            accepted++;
            if (message.command != ADP_CMD_GET_APP && message.command != ADP_CMD_GET_PROGRAMS &&
                message.command != ADP_CMD_RUN) {
                expect_implementations_agree();
                ASSERT_FALSE(HasFailure()) << "after " << hex(bytes);
                expect_flow_unharmed();
                ASSERT_FALSE(HasFailure()) << "after " << hex(bytes);
                reset_state();
                batch.clear();
                continue;
            }
        } else {
            refused++;
            reasons[fmt::format("{}: {}", strerror(reply.error), kind_of(reply.message))]++;
            const bool known = message.command >= 1 && message.command <= ADP_CMD_MAX;
            const bool dumps = (message.flags & NLM_F_DUMP) == NLM_F_DUMP;
            // A command that is not there, or not as a dump or not but as one: generic netlink refuses by itself,
            // without words.
            if (known && !dumps && message.command != ADP_CMD_GET_PROGRAMS && reply.message.empty() &&
                silent[message.command]++ == 0) {
                ADD_FAILURE() << "command " << int{message.command}
                              << " refused without a reason: " << strerror(reply.error) << ": " << hex(bytes);
            }
        }
        if (batch.size() >= 32) {
            const std::string now = state();
            if (now != state_) {
                for (const std::vector<uint8_t>& one : batch) {
                    fmt::print("  {}\n", hex(one));
                }
                FAIL() << "a refused message changed something\nbefore: " << state_ << "\nafter: " << now
                       << "\nthe batch is above";
            }
            expect_active_unharmed();
            expect_flow_unharmed();
            ASSERT_FALSE(HasFailure()) << "message " << sent;
            batch.clear();
        }
    }
    expect_flow_unharmed();
    fmt::print("{} messages: {} refused, {} accepted; {} datagrams of garbage\n", sent, refused, accepted, garbage);
    for (const auto& [reason, count] : reasons) {
        fmt::print("  {:7}  {}\n", count, reason);
    }
    if (run_seconds >= 5) {
        EXPECT_GT(refused, 100U) << "the test itself: too few refusals";
        EXPECT_GT(accepted, 20U) << "the test itself: too few valid messages";
        EXPECT_GT(reasons.size(), 15U) << "the test itself: it does not reach far";
    }
    ASSERT_EQ(driver_->unbind(0, 0), 0);
}

}  // namespace
}  // namespace adapath::kmod_test

int main(int argc, char** argv) {
    using namespace adapath;
    testing::InitGoogleTest(&argc, argv);
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fmt::print(
            "usage: vm_netlink_fuzz [SECONDS [SEED]]\n\nFuzzes the netlink family of adapath.ko, in a VM only. "
            "SECONDS: how long "
            "(default ADAPATH_FUZZ_SECONDS, or 20).\nSEED: repeats a run (default ADAPATH_SEED, or a random one, "
            "printed).\n"
            "ADAPATH_MODULES: directory of adapath.ko and adapath_test.ko.\nExit: 0 nothing found, 1 something "
            "found.\n");
        return 0;
    }
    kmod_test::run_seconds =
        argc > 1 ? std::strtoull(argv[1], nullptr, 10) : test::environment("ADAPATH_FUZZ_SECONDS", 20);
    kmod_test::run_seed =
        argc > 2 ? std::strtoull(argv[2], nullptr, 10) : test::environment("ADAPATH_SEED", std::random_device{}());
    return RUN_ALL_TESTS();
}
