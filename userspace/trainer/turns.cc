// The trainer's half of learning by turns (models/tuner.h says what is compared): brings the setting whose turn it is
// in place, and keeps what was learned.
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/common/text.h"
#include "userspace/trainer/trainer.h"

namespace adapath {
namespace {

constexpr double kTryAgainS = 5;
constexpr const char* kFile = "/tuner.json";

nlohmann::json to_json(const TunerSetting& setting) { return {{"bias", setting.bias}, {"gain", setting.gain}}; }

// Throws what nlohmann throws.
TunerSetting from_json(const nlohmann::json& json) {
    return {json.at("bias").get<double>(), json.at("gain").get<double>()};
}

}  // namespace

// The wanted setting's turn: its snapshot, which the daemon has already or is sent.
void Trainer::follow_turns() {
    if (const std::string news = tuner_.take_news(); !news.empty()) {
        spdlog::info("{}", news);
        save();
    }
    const uint64_t now_us = monotonic_us();
    if (!train_) {
        tuner_.pause();
    }
    if (retry_us_ != 0 && (now_us < retry_us_ || !train_)) {
        return;  // the fallback decides for now
    }
    const bool asked = send_now_;
    // With training off nothing moves, but for the first snapshot and a challenger, which was only ever to decide for
    // seconds.
    const bool due = turn_ ? *turn_ != tuner_.wanted() : train_ || asked || restored_;
    if (!asked && (!due || now_us < next_try_us_)) {
        return;
    }
    send_now_ = false;
    const bool first = !turn_ && !asked && retry_us_ != 0;
    retry_us_ = 0;
    const std::string reason = first                                   ? "the fallback decides: another try"
                               : asked && tuner_.counters().turns == 0 ? "first snapshot, from the checkpoint"
                               : asked                                 ? "asked for by train now"
                                                                       : "its turn: " + describe(tuner_.wanted());
    if (Status status = bring(reason); !status) {
        spdlog::warn("{} could not take its turn: {}", describe(tuner_.wanted()), status.error().message);
        turn_.reset();
        tuner_.refused();
        next_try_us_ = now_us + static_cast<uint64_t>(kTryAgainS * 1e6);
    }
}

void Trainer::in_place(const std::string& hash, uint32_t generation, uint64_t switches) {
    turn_ = tuner_.wanted();
    restored_ = false;
    active_hash_ = hash;
    switches_ = switches;
    last_send_us_ = monotonic_us();
    tuner_.decides(generation);
}

Status Trainer::bring(const std::string& reason) {
    const TunerSetting setting = tuner_.wanted();
    const auto known =
        std::find_if(frozen_.begin(), frozen_.end(), [&](const auto& frozen) { return frozen.first == setting; });
    if (known != frozen_.end() && !options_.dry_run) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
        pb::SwitchRequest request;
        pb::SwitchReply reply;
        request.mutable_target()->set_hash(known->second);
        request.set_reason(reason);
        request.set_turn(true);
        if (grpc::Status status = stub_->Switch(&context, request, &reply); status.ok()) {
            in_place(known->second, reply.generation(), reply.switches());
            return {};
        }
        frozen_.erase(known);  // the daemon does not store it any more
    }
    Result<Sent> sent = install(apply_setting(base_, setting), reason, true);
    if (!sent) {
        return sent.error();
    }
    if (options_.dry_run) {
        turn_ = setting;
        return {};
    }
    frozen_.emplace_back(setting, sent->snapshot.hash);
    in_place(sent->snapshot.hash, sent->reply.generation(), sent->reply.switches());
    return {};
}

// Something else than what was brought from here decides: an operator's snapshot, or one of an earlier trainer.
void Trainer::follow_foreign(const std::string& hash, const FloatModel& model) {
    turn_.reset();
    if (!same_network(model, start_)) {
        tuner_.pause();
        return;
    }
    spdlog::info("snapshot {} decides: learning goes on from it", short_hash(hash));
    base_ = model;
    base_is_checkpoint_ = false;
    frozen_.clear();
    frozen_.emplace_back(TunerSetting{}, hash);
    tuner_.restart();
}

// A challenger decides only while somebody compares.
void Trainer::leave_turns() {
    if (options_.learning != Learning::turns || !turn_ || options_.dry_run) {
        return;
    }
    tuner_.pause();
    if (*turn_ == tuner_.wanted()) {
        return;
    }
    if (Status status = bring("the trainer stops"); !status) {
        spdlog::warn("{} could not be brought back: {}; what decides now is under the daemon's watch",
                     describe(tuner_.wanted()), status.error().message);
    }
}

void Trainer::save_turns() {
    if (options_.save.empty()) {
        return;
    }
    if (!base_is_checkpoint_) {
        // Settings of an operator's snapshot: a trainer that starts again goes on from what decides then.
        (void)unlink((options_.save + kFile).c_str());
        return;
    }
    nlohmann::json good = nlohmann::json::array();
    for (const TunerSetting& setting : tuner_.good_before()) {
        good.push_back(to_json(setting));
    }
    const nlohmann::json json = {{"best", to_json(tuner_.best())}, {"good_before", good}};
    if (Status status = write_file_durably(options_.save + kFile, json.dump(1) + "\n"); !status) {
        spdlog::warn("{}", status.error().message);
    }
}

Status Trainer::restore_turns() {
    const std::string path = options_.save + kFile;
    if (options_.save.empty() || access(path.c_str(), F_OK) != 0) {
        return {};
    }
    Result<std::string> text = read_file(path);
    if (!text) {
        return text.error();
    }
    try {
        const nlohmann::json json = nlohmann::json::parse(*text);
        std::vector<TunerSetting> good;
        for (const nlohmann::json& setting : json.at("good_before")) {
            good.push_back(from_json(setting));
        }
        tuner_.resume(from_json(json.at("best")), good);
    } catch (const nlohmann::json::exception& e) {
        return Error{fmt::format("{}: {}: remove it to begin again from the checkpoint", path, e.what())};
    }
    restored_ = true;
    spdlog::info("going on from what was learned before ({}): {}", path, describe(tuner_.best()));
    return {};
}

}  // namespace adapath
