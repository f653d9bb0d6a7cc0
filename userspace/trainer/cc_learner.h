// The app cc as the trainer's loop sees it: models/online.h's trainer, its records, its log line.
#pragma once

#include "models/learner.h"
#include "models/online.h"

namespace adapath {

class CcLearner final : public Learner {
public:
    CcLearner(const FloatModel& policy, const FloatModel& value, const OnlineOptions& options)
        : online_(policy, value, options) {}

    [[nodiscard]] std::string_view app() const override { return "cc"; }
    [[nodiscard]] uint32_t schema() const override { return ADP_CC_SCHEMA; }
    [[nodiscard]] size_t record_bytes() const override { return sizeof(adp_cc_sample); }
    void add(std::span<const std::byte> records, bool learn) override;
    std::string step() override;
    [[nodiscard]] bool stable() const override { return online_.stable(); }
    [[nodiscard]] double fidelity_loss(const LearnedModel& active) const override {
        return online_.fidelity_loss(std::get<FloatModel>(active));
    }
    [[nodiscard]] bool necessary(const LearnedModel& active) const override {
        return online_.necessary(std::get<FloatModel>(active));
    }
    [[nodiscard]] LearnedModel model() const override { return online_.current(); }
    [[nodiscard]] std::vector<InputCodes> recent_codes() const override { return online_.recent_codes(); }
    [[nodiscard]] std::vector<InputCodes> simulated_codes(const FloatModel& model, size_t count) const override;
    void restart_from(const LearnedModel& model) override { online_.restart_from(std::get<FloatModel>(model)); }
    Status save(const std::string& directory) const override;
    [[nodiscard]] std::string progress() const override;

private:
    OnlineTrainer online_;
    OnlineStats last_;
};

// A message's bytes need not be aligned for the record.
[[nodiscard]] std::vector<adp_cc_sample> cc_samples_of(std::span<const std::byte> records);

}  // namespace adapath
