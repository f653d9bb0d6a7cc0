// The quality selector in an encoder's process, under adapathd's switch: takes the active snapshot once a chunk, runs
// it, says which macroblocks get the high quality, and puts samples that prove it. Never an error to the encoder:
// where nothing can decide, the chunk has one quality. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <adapath/qp.h>

#include "codegen/image.h"
#include "userspace/host/host_reader.h"
#include "userspace/qp/program_cache.h"
#include "userspace/video/block_mask.h"

namespace adapath {

// Luma of a picture, rows `stride` bytes apart.
struct QpPicture {
    const uint8_t* luma = nullptr;
    uint32_t width = 0;  // at most 4096
    uint32_t height = 0;
    uint32_t stride = 0;
};

inline constexpr unsigned kQpSamplesMost = 64;

struct LiveSelectorOptions {
    std::string directory;  // adapathd's host_directory
    uint32_t camera = 0;    // for people
    double threshold = 0;   // of the logits
    int dilation = 0;       // blocks, 0 to 255
    uint64_t seed = 0;      // of the blocks that samples are about; 0: a random one
    // A chunk, 1 to kQpSamplesMost: more of them prove and teach more, and fill the reader's ring (ADP_HOST_RING)
    // sooner than the daemon empties it: at 8 a chunk and 10 batches a second 320 chunks a second would.
    unsigned samples = 8;
    // Of 256 chunks so many, drawn at random, are not to be encoded as decided (Decision::explored): what the server
    // sees in the low quality it cannot label well, and its labels would lean to what was chosen. 0: none.
    uint8_t explore = 0;
};

struct LiveSelectorStats {
    uint64_t decisions = 0;
    uint64_t explored = 0;  // of them, not obeyed
    uint64_t uniform = 0;   // chunks that nothing decided
    uint64_t samples = 0;   // of both, those that were lost included
    uint64_t samples_lost = 0;
    uint32_t generation = 0;  // of the last chunk; 0: none decided
    uint64_t switches = 0;    // changes of generation from one chunk to the next
    std::string state;        // why nothing decides; empty where a snapshot does
};

class LiveSelector {
public:
    // The file need not be there yet: it is looked for about once a second.
    LiveSelector(LiveSelectorOptions options, std::shared_ptr<ProgramCache> programs);
    ~LiveSelector();

    struct Decision {
        std::optional<video::BlockMask> mask;  // none: one quality
        uint32_t generation = 0;
        double share = 0;       // of the blocks that are high
        bool explored = false;  // encode the chunk in one quality, whatever the mask says
    };
    // For the chunk that begins with `first`. `before`, of the same size: the picture before it; with a null pointer
    // there was none. `chunk_us`: the chunk's time (adp_qp_sample), by which the server's labels find its samples.
    Decision decide(const QpPicture& first, const QpPicture& before, uint64_t chunk_us);

    // What became of the chunk before, and what this one is encoded with; puts the samples of the last decide().
    struct Outcome {
        int qp_high = 0;
        int qp_low = 0;
        uint64_t bytes_before = 0;
        uint64_t budget_before = 0;
        // The mask of the two qualities; of an explored chunk, the one that it would have had. Null: one quality.
        const video::BlockMask* mask = nullptr;
    };
    void record(const Outcome& outcome);

    [[nodiscard]] const LiveSelectorStats& stats() const { return stats_; }

private:
    struct Loaded;

    void connect();
    const Loaded* load(const HostReader::Hold& hold);
    void run(const HostReader::Hold& hold, const Loaded& loaded, const QpPicture& first, const QpPicture& before,
             Decision& decision);
    [[nodiscard]] std::vector<uint32_t> choose_blocks(size_t blocks);

    LiveSelectorOptions options_;
    std::shared_ptr<ProgramCache> programs_;
    std::unique_ptr<HostReader> reader_;
    uint64_t looked_us_ = 0;
    std::unique_ptr<Loaded> loaded_;  // of the generation that decided last
    std::mt19937_64 random_;
    uint32_t seq_ = 0;
    uint64_t decided_us_ = 0;
    adp_qp_sample sample_{};  // what all of the chunk's have in common
    std::vector<adp_qp_sample> samples_;
    bool pending_ = false;
    bool failed_ = false;  // this chunk's snapshot can't decide, now or later
    std::vector<int32_t> logits_;
    LiveSelectorStats stats_;
};

}  // namespace adapath
