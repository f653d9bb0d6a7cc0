// kmod_hand: the shell tests' hand on adapath.ko (tests/vm/cases): installs a committed float model as a snapshot,
// switches, clears, and prints an app's state as lines "key value". Not for operators, who have adapathctl.
#include <cstdio>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "tests/codegen/random_models.h"
#include "tests/kmod/driver.h"

namespace adapath::kmod_test {
namespace {

constexpr const char* kUsage = R"(usage: kmod_hand COMMAND APP [ARGUMENT...]

  install APP MODEL GENERATION [EXPLORE]  quantises a float model and installs it; prints its slot. EXPLORE: 0 to 65536, Q16
  switch APP SLOT                         that slot decides
  rollback APP | deactivate APP | clear APP
  consistency APP decision|flow           how flows take up a switch
  status APP                              prints the app's state, a line each: "key value"
  programs                                prints the registered programs: "hash module users"

Exit: 0 done, 1 the kernel refused (the reason is on stderr), 2 wrong usage.
)";

int fail(const std::string& why) {
    fmt::print(stderr, "kmod_hand: {}\n", why);
    return 1;
}

int say(const Reply& reply) {
    return reply.ok() ? 0 : fail(fmt::format("{}: {}", strerror(reply.error), reply.message));
}

int install(Genl& genl, const std::string& app, const std::string& path, uint32_t generation, uint32_t explore) {
    Result<FloatModel> model = read_float_model(path);
    if (!model) {
        return fail(model.error().message);
    }
    std::mt19937_64 random(1);
    const std::vector<InputCodes> calibration =
        model->network.app == "cc" ? testing_support::kernel_codes(1000, random)
                                   : testing_support::uniform_codes(model->network.input_count(), 1000, random);
    Result<QuantModel> quantised = quantise(*model, calibration);
    if (!quantised) {
        return fail(quantised.error().message);
    }
    Snapshot unsealed;
    unsealed.model = *quantised;
    unsealed.reference = *model;
    Result<Snapshot> snapshot = seal(unsealed);
    if (!snapshot) {
        return fail(snapshot.error().message);
    }
    InstallRequest request = request_for(app, model->network.feature_schema, *quantised, generation);
    request.hash = std::stoull(snapshot->hash.substr(0, 16), nullptr, 16);
    request.program_hash = std::stoull(snapshot->program_hash.substr(0, 16), nullptr, 16);
    request.explore = explore;
    const Reply reply = genl.call(ADP_CMD_INSTALL, install_attributes(request));
    if (const std::optional<uint32_t> slot = installed_slot(reply)) {
        fmt::print("{}\n", *slot);
        return 0;
    }
    return say(reply);
}

int status(Genl& genl, const std::string& name) {
    const Result<App> app = get_app(genl, name);
    if (!app) {
        return fail(app.error().message);
    }
    fmt::print("active {}\nstandby {}\n", static_cast<int32_t>(app->active), static_cast<int32_t>(app->standby));
    static const char* const counters[] = {"decisions",    "fallbacks",    "program_missing", "samples",
                                           "samples_lost", "flows_opened", "flows_closed",    "acks"};
    for (size_t i = 0; i < std::min(app->stats.size(), std::size(counters)); ++i) {
        fmt::print("{} {}\n", counters[i], app->stats[i]);
    }
    uint64_t bound = 0;
    for (const auto& [index, slot] : app->slots) {
        bound += slot.bound;
        fmt::print("slot_{}_generation {}\nslot_{}_implementation {}\nslot_{}_bound {}\n", index, slot.generation,
                   index, slot.implementation, index, slot.bound);
    }
    fmt::print("bound {}\nslots {}\n", bound, app->slots.size());
    return 0;
}

int programs(Genl& genl) {
    const Reply reply = genl.call(ADP_CMD_GET_PROGRAMS, Attributes(), true);
    for (const std::vector<uint8_t>& message : reply.messages) {
        const std::vector<Attribute> attributes = parse_attributes(message);
        const Attribute* hash = find(attributes, ADP_A_PROGRAM_HASH);
        const Attribute* name = find(attributes, ADP_A_NAME);
        const Attribute* users = find(attributes, ADP_A_USERS);
        if (hash != nullptr && name != nullptr && users != nullptr) {
            fmt::print("{:016x} {} {}\n", hash->u64().value(), name->string(), users->u32().value());
        }
    }
    return say(reply);
}

int usage() {
    fmt::print(stderr, "{}", kUsage);
    return 2;
}

int run(const std::vector<std::string>& arguments) {
    if (arguments.empty()) {
        return usage();
    }
    const std::string& command = arguments[0];
    if (command == "--help" || command == "-h") {
        fmt::print("{}", kUsage);
        return 0;
    }
    Result<Genl> genl = Genl::open();
    if (!genl) {
        return fail(genl.error().message);
    }
    if (command == "programs" && arguments.size() == 1) {
        return programs(*genl);
    }
    if (arguments.size() < 2) {
        return usage();
    }
    const std::string& app = arguments[1];
    Attributes name;
    name.string(ADP_A_APP, app);
    if (command == "install" && (arguments.size() == 4 || arguments.size() == 5)) {
        return install(*genl, app, arguments[2], static_cast<uint32_t>(std::stoul(arguments[3])),
                       arguments.size() == 5 ? static_cast<uint32_t>(std::stoul(arguments[4])) : 0);
    }
    if (command == "switch" && arguments.size() == 3) {
        return say(genl->call(ADP_CMD_SWITCH, slot_attributes(app, static_cast<uint32_t>(std::stoul(arguments[2])))));
    }
    if (command == "consistency" && arguments.size() == 3) {
        name.u32(ADP_A_CONSISTENCY, arguments[2] == "flow" ? ADP_CONSISTENT_FLOW : ADP_CONSISTENT_DECISION);
        return say(genl->call(ADP_CMD_CONFIGURE, name));
    }
    if (arguments.size() != 2) {
        return usage();
    }
    if (command == "rollback") {
        return say(genl->call(ADP_CMD_ROLLBACK, name));
    }
    if (command == "deactivate") {
        return say(genl->call(ADP_CMD_DEACTIVATE, name));
    }
    if (command == "clear") {
        return say(genl->call(ADP_CMD_CLEAR, name));
    }
    return command == "status" ? status(*genl, app) : usage();
}

}  // namespace
}  // namespace adapath::kmod_test

int main(int argc, char** argv) {
    try {
        return adapath::kmod_test::run({argv + 1, argv + argc});
    } catch (const std::exception&) {
        // std::stoul() on what is no number.
        return adapath::kmod_test::usage();
    }
}
