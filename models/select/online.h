// Online training of the app select: supervised, on what the server measured where both renditions of a chunk were
// sent. A report is matched to the decision that let the chunk pass, whose input codes are the features: what the model
// learns from is bit for bit what it saw. No LibTorch in this header.
#pragma once

#include <adapath/select.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codegen/model.h"
#include "models/learner.h"
#include "models/select/training.h"
#include "models/supervised.h"

namespace adapath {

struct SelectOnlineOptions {
    uint32_t batch = 32;      // new labels that step() waits for
    uint32_t keep = 2048;     // labels that are learned from again; the oldest make room
    uint32_t recent = 2048;   // recent inputs that outputs are compared and models calibrated on
    uint32_t remember = 256;  // decisions of each camera that a report may still be about
    // A chunk's first packet reaches the kernel side and the relay so much apart at most.
    uint64_t match_us = 20'000;
    // Of a decision that is older than this when the chunk begins, nothing can be learned: its sample was lost.
    uint64_t decision_us = ADP_SELECT_CHUNK_MAX_US;
    uint32_t steps = 40;  // gradient steps a batch
    uint32_t minibatch = 128;
    double rate = 1e-3;
    // How strongly outputs on recent inputs are held to the checkpoint's, as a factor to their squared difference:
    // where there are no labels, what was known stays.
    double anchor = 0.1;
    // As in online.h; the range of a worth is 1.
    double stable_change = 0.02;
    uint32_t stable_batches = 2;
    double necessary_loss = 0.03;
    int threads = 1;  // of LibTorch, for the whole process
    uint64_t seed = 1;
    const std::atomic<bool>* stop = nullptr;  // step() returns early once this is set
};

struct SelectOnlineCounters {
    uint64_t samples = 0;
    uint64_t reports = 0;
    uint64_t labels = 0;     // reports that were matched to a decision and can be learned from
    uint64_t unmatched = 0;  // no decision of that camera is known that it could be about
    uint64_t late = 0;       // the decision is forgotten already
    uint64_t blind = 0;      // the decision had no input yet (a rendition that was not measured)
    uint64_t repeated = 0;   // the decision has a label already
};

class SelectOnline final : public Learner {
public:
    SelectOnline(const FloatModel& checkpoint, const SelectOnlineOptions& options = {});
    ~SelectOnline() override;
    SelectOnline(const SelectOnline&) = delete;
    SelectOnline& operator=(const SelectOnline&) = delete;

    void add(std::span<const adp_select_sample> samples, bool learn = true);
    // The error is of the worths.
    SupervisedStats train();
    [[nodiscard]] SelectOnlineCounters counters() const;
    [[nodiscard]] FloatModel current() const;

    [[nodiscard]] std::string_view app() const override { return "select"; }
    [[nodiscard]] uint32_t schema() const override { return ADP_SELECT_SCHEMA; }
    [[nodiscard]] size_t record_bytes() const override { return sizeof(adp_select_sample); }
    void add(std::span<const std::byte> records, bool learn) override;
    void add_measured(uint64_t camera, uint64_t chunk_us, double sub_worth, double gain) override;
    std::string step() override;
    [[nodiscard]] bool stable() const override;
    [[nodiscard]] double fidelity_loss(const LearnedModel& active) const override;
    [[nodiscard]] bool necessary(const LearnedModel& active) const override;
    [[nodiscard]] LearnedModel model() const override { return current(); }
    [[nodiscard]] std::vector<InputCodes> recent_codes() const override;
    // Made up around what cameras are like: there are no measured chunks where only the trainer runs.
    [[nodiscard]] std::vector<InputCodes> simulated_codes(const FloatModel& model, size_t count) const override;
    void restart_from(const LearnedModel& model) override;
    Status save(const std::string& directory) const override;
    [[nodiscard]] std::string progress() const override;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace adapath
