// Online training of the app qp: supervised, on what the server's vision network says of chunks' macroblocks. A label
// (BlockWeights) is matched to the samples of its chunk by camera and chunk's time; each sample's window is all that
// its block's output depends on, so what is learned from is bit for bit what the selector saw. No LibTorch in this
// header.
#pragma once

#include <adapath/qp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/image.h"
#include "models/learner.h"
#include "models/supervised.h"

namespace adapath {

struct QpOnlineOptions {
    uint32_t batch = 64;       // new windows with a label that step() waits for
    uint32_t keep = 8192;      // such windows that are learned from again; the oldest make room
    uint32_t recent = 256;     // windows that outputs are compared and models calibrated on
    uint32_t remember = 4096;  // windows, of all cameras, that a label may still come for: 512 chunks of 8
    uint32_t maps = 32;        // of a camera's labels, whose values say what matters
    double share = 0.2;        // of a camera's blocks are worth the high quality, as in training offline
    uint32_t steps = 40;       // gradient steps a batch
    uint32_t minibatch = 64;
    double rate = 1e-3;
    // How strongly probabilities on recent windows are held to the checkpoint's, as a factor to their squared
    // difference: where there are no labels, what was known stays.
    double anchor = 0.1;
    // As in models/online.h; the range of a probability is 1. Live, with the default detector on real video, a batch of
    // 64 windows moves them by 0.05 on average and never less than 0.03 however long it learns: with 0.02 nothing would
    // ever be installed. And two snapshots a batch or two apart differ by about as much, for nothing.
    double stable_change = 0.06;
    uint32_t stable_batches = 2;
    double necessary_loss = 0.08;
    int threads = 1;  // of LibTorch, for the whole process
    uint64_t seed = 1;
    const std::atomic<bool>* stop = nullptr;  // step() returns early once this is set
};

struct QpOnlineCounters {
    uint64_t samples = 0;
    uint64_t undecided = 0;  // of them, without a window: nothing decided
    uint64_t misfits = 0;    // of them, with a window that is none of the checkpoint's network
    uint64_t labels = 0;     // that came
    uint64_t matched = 0;    // of them, with samples of their chunk
    uint64_t unmatched = 0;  // no sample of that chunk has come: lost, undecided, or of another encoder
    uint64_t late = 0;       // its samples may have been forgotten already
    uint64_t repeated = 0;   // the chunk has a label already
    uint64_t wrong = 0;      // not numbers of at least 0, or not as many as the picture has blocks
    uint64_t windows = 0;    // that got a label
    uint64_t unseen = 0;     // that had the low quality, where explored chunks say what such blocks are worth
};

class QpOnline final : public Learner {
public:
    // The file in a checkpoint's directory, and in save()'s.
    static constexpr std::string_view file_name = "selector.json";

    QpOnline(const ImageFloatModel& checkpoint, const QpOnlineOptions& options = {});
    ~QpOnline() override;
    QpOnline(const QpOnline&) = delete;
    QpOnline& operator=(const QpOnline&) = delete;

    // The error is the mean cross entropy, in nats.
    SupervisedStats train();
    [[nodiscard]] QpOnlineCounters counters() const;
    [[nodiscard]] ImageFloatModel current() const;
    // Of what has been learned, for recent_pictures(), as LibTorch computes them.
    [[nodiscard]] std::vector<float> recent_logits() const;
    // A block matters where its smoothed value reaches this, by the camera's recent labels; 0: there are none.
    [[nodiscard]] float threshold(uint64_t camera) const;

    [[nodiscard]] std::string_view app() const override { return "qp"; }
    [[nodiscard]] uint32_t schema() const override { return ADP_QP_SCHEMA; }
    [[nodiscard]] size_t record_bytes() const override { return sizeof(adp_qp_sample); }
    void add(std::span<const std::byte> records, bool learn) override;
    void add_blocks(uint64_t camera, uint64_t chunk_us, uint32_t columns, uint32_t rows,
                    std::span<const float> weights) override;
    std::string step() override;
    [[nodiscard]] bool stable() const override;
    [[nodiscard]] double fidelity_loss(const LearnedModel& active) const override;
    [[nodiscard]] bool necessary(const LearnedModel& active) const override;
    [[nodiscard]] LearnedModel model() const override { return current(); }
    [[nodiscard]] std::vector<ImageCodes> recent_pictures() const override;
    // Made up, with edges, textures and what moves: there are no pictures where only the trainer runs.
    [[nodiscard]] std::vector<ImageCodes> simulated_pictures(size_t count) const override;
    void restart_from(const LearnedModel& model) override;
    Status save(const std::string& directory) const override;
    [[nodiscard]] std::string progress() const override;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace adapath
