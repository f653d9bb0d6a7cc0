// See control.h.
#include "userspace/kmod_backend/control.h"

#include <fmt/format.h>
#include <netlink/genl/genl.h>

#include <algorithm>
#include <optional>

namespace adapath::kmod {
namespace {

constexpr GenlFamily kFamily = {ADP_GENL_NAME, "adapath_cc", attribute_name};

}  // namespace

Error refused(uint8_t command, const std::string& app, const Refusal& refusal) {
    return refused(fmt::format("adapath.ko refuses {}{}{}", command_name(command), app.empty() ? "" : " for app ", app),
                   refusal);
}

Result<std::unique_ptr<Control>> Control::open() {
    std::unique_ptr<Control> control(new Control);
    if (Status status = control->socket_.connect(); !status) {
        return status.error();
    }
    return control;
}

Control::Control() : socket_(kFamily) {}

Status Control::talk(const Message& message, const std::string& app, const GenlSocket::OnReply& on_reply) {
    const uint8_t command = message == nullptr ? uint8_t{ADP_CMD_UNSPEC} : genlmsg_hdr(nlmsg_hdr(message.get()))->cmd;
    return socket_.talk(message, command_name(command), on_reply,
                        [&](const Refusal& refusal) { return refused(command, app, refusal); });
}

Result<std::vector<AppState>> Control::apps() {
    std::vector<AppState> all;
    Status status =
        talk(request(socket_.number(), ADP_CMD_GET_APP, "", NLM_F_DUMP), "", [&](const nlmsghdr* reply) -> Status {
            Result<AppState> app = parse_app(reply);
            if (!app) {
                return app.error();
            }
            all.push_back(std::move(*app));
            return {};
        });
    if (!status) {
        return status.error();
    }
    return all;
}

namespace {

// For commands with exactly one answer.
template <typename T, typename Parse>
auto keep(std::optional<T>& kept, Parse parse) {
    return [&kept, parse](const nlmsghdr* reply) -> Status {
        Result<T> parsed = parse(reply);
        if (!parsed) {
            return parsed.error();
        }
        kept = std::move(*parsed);
        return {};
    };
}

Error no_answer(uint8_t command) {
    return Error{fmt::format("adapath.ko acknowledged {} and answered nothing: are module and adapathd of one version?",
                             command_name(command))};
}

}  // namespace

Result<AppState> Control::app(const std::string& name) {
    std::optional<AppState> app;
    if (Status status = talk(request(socket_.number(), ADP_CMD_GET_APP, name), name, keep(app, parse_app)); !status) {
        return status.error();
    }
    return app ? Result<AppState>(std::move(*app)) : no_answer(ADP_CMD_GET_APP);
}

Result<uint32_t> Control::install(const std::string& app, const InstallRequest& install) {
    std::optional<uint32_t> slot;
    if (Status status = talk(install_request(socket_.number(), app, install), app, keep(slot, parse_slot)); !status) {
        return status.error();
    }
    return slot ? Result<uint32_t>(*slot) : no_answer(ADP_CMD_INSTALL);
}

Status Control::slot_command(uint8_t command, const std::string& app, uint32_t slot) {
    return talk(slot_request(socket_.number(), command, app, slot), app);
}

Status Control::app_command(uint8_t command, const std::string& app) {
    return talk(request(socket_.number(), command, app), app);
}

Status Control::set_explore(const std::string& app, uint32_t slot, uint32_t explore_q16) {
    return talk(explore_request(socket_.number(), app, slot, explore_q16), app);
}

Status Control::configure(const std::string& app, uint32_t wakeup_bytes, uint32_t consistency) {
    return talk(configure_request(socket_.number(), app, wakeup_bytes, consistency), app);
}

Status Control::set_canary(const std::string& app, uint32_t slot, uint32_t share_q16) {
    return talk(canary_request(socket_.number(), app, slot, share_q16), app);
}

Status Control::set_objective(const std::string& app, const std::array<uint32_t, ADP_OBJECTIVES>& weights_q16) {
    return talk(objective_request(socket_.number(), app, weights_q16), app);
}

Result<std::vector<int32_t>> Control::run(const std::string& app, uint32_t slot, uint32_t implementation,
                                          std::span<const std::vector<uint8_t>> inputs) {
    std::vector<int32_t> outputs;
    while (!inputs.empty()) {
        const auto part = inputs.first(std::min(inputs.size(), run_inputs_per_request(inputs.front().size())));
        inputs = inputs.subspan(part.size());
        std::optional<RunReply> reply;
        if (Status status =
                talk(run_request(socket_.number(), app, slot, implementation, part), app, keep(reply, parse_run));
            !status) {
            return status.error();
        }
        if (!reply) {
            return no_answer(ADP_CMD_RUN);
        }
        if (implementation != ADP_RUN_CHOSEN && reply->implementation != implementation) {
            return Error{fmt::format("adapath.ko was asked to run the {} program and ran the {} one",
                                     implementation_name(implementation), implementation_name(reply->implementation))};
        }
        outputs.insert(outputs.end(), reply->outputs.begin(), reply->outputs.end());
    }
    return outputs;
}

}  // namespace adapath::kmod
