// See live_selector.h.
#include "userspace/qp/live_selector.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "userspace/common/clock.h"
#include "userspace/host/atomics.h"

namespace adapath {
namespace {

// Between two looks for a file that is missing, or that another one has replaced.
constexpr uint64_t kLookUs = 1'000'000;

ImageCodes codes_of(const QpPicture& first, const QpPicture& before) {
    ImageCodes codes;
    codes.size = {adp_qp_side(first.width), adp_qp_side(first.height)};
    const size_t count = size_t{codes.size.width} * codes.size.height;
    codes.codes.assign(ADP_QP_PLANES * count, 0);
    adp_qp_luma(first.luma, first.width, first.height, first.stride, codes.codes.data());
    if (before.luma != nullptr) {
        std::vector<uint8_t> earlier(count);
        adp_qp_luma(before.luma, first.width, first.height, before.stride, earlier.data());
        adp_qp_change(codes.codes.data(), earlier.data(), static_cast<uint32_t>(count), codes.codes.data() + count);
    }
    return codes;
}

}  // namespace

// A slot's snapshot as this process has read it. The parameters stay where they are: they are read under a hold.
struct LiveSelector::Loaded {
    uint32_t generation = 0;
    ImageQuantModel model;
    ImageRun run;       // empty: not compiled yet, or not to be
    std::string error;  // why it can't decide
};

LiveSelector::LiveSelector(LiveSelectorOptions options, std::shared_ptr<ProgramCache> programs)
    : options_(std::move(options)),
      programs_(std::move(programs)),
      random_(options_.seed != 0 ? options_.seed : std::random_device{}()) {
    options_.dilation = std::clamp(options_.dilation, 0, 255);
    options_.samples = std::clamp(options_.samples, 1U, kQpSamplesMost);
}

LiveSelector::~LiveSelector() = default;

void LiveSelector::connect() {
    const uint64_t now_us = monotonic_us();
    if (looked_us_ != 0 && now_us - looked_us_ < kLookUs) {
        return;
    }
    looked_us_ = now_us;
    if (reader_ != nullptr && !reader_->replaced()) {
        return;
    }
    reader_.reset();
    loaded_.reset();
    seq_ = 0;  // another file gives another flow
    const HostApp app{"qp", ADP_QP_SCHEMA, sizeof(adp_qp_sample)};
    Result<std::unique_ptr<HostReader>> joined = HostReader::join(options_.directory, app, options_.camera);
    if (joined) {
        reader_ = std::move(*joined);
        stats_.state = "no snapshot is active";
    } else {
        stats_.state = joined.error().message;
    }
}

// Whose generation is known already is not read again: a slot's contents never change under one generation.
const LiveSelector::Loaded* LiveSelector::load(const HostReader::Hold& hold) {
    const adp_host_slot& slot = hold.slot();
    // Acquire, against the daemon's release of the generation; the hold has ordered it already.
    const uint32_t generation = load_acquire(slot.slot.generation);
    if (loaded_ == nullptr || loaded_->generation != generation) {
        auto loaded = std::make_unique<Loaded>();
        loaded->generation = generation;
        const size_t network_bytes = std::min<size_t>(slot.network_bytes, ADP_HOST_NETWORK_BYTES);
        Result<ImageNetwork> network =
            parse_image_network({reinterpret_cast<const char*>(slot.network), network_bytes});
        // With its proof: what another process wrote decides over no memory of this one.
        Result<ImageQuantModel> model =
            network ? unpack(*network, {slot.slot.params, std::min<size_t>(slot.slot.params_bytes, ADP_PARAMS_BYTES)})
                    : Result<ImageQuantModel>(network.error());
        if (model && (model->network.inputs.size() != ADP_QP_PLANES || total_stride(model->network) != 4 ||
                      model->network.layers.back().outputs != 1 || widest_window(model->network) > ADP_QP_WINDOW)) {
            model = Error{describe(model->network) + ": not a network of app qp"};
        }
        if (!model) {
            loaded->error = fmt::format("generation {}: {}", generation, model.error().message);
        } else {
            // The program goes on where only the numbers are new.
            if (loaded_ != nullptr && loaded_->model.network == model->network) {
                loaded->run = std::move(loaded_->run);
            }
            loaded->model = std::move(*model);
        }
        loaded_ = std::move(loaded);
    }
    if (loaded_->error.empty() && !loaded_->run && ProgramCache::has_compiler()) {
        loaded_->run = programs_->find(loaded_->model);
    }
    return loaded_.get();
}

// One of each stretch of the blocks, row by row, so that they are all over the picture. Where none of them is high and
// one of the picture is, one of these takes a place: seldom is what is high, and it is what labels are about.
std::vector<uint32_t> LiveSelector::choose_blocks(size_t blocks) {
    const size_t count = std::min<size_t>(options_.samples, blocks);
    std::vector<uint32_t> chosen;
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        const size_t begin = i * blocks / count;
        const size_t end = (i + 1) * blocks / count;
        chosen.push_back(static_cast<uint32_t>(begin + random_() % (end - begin)));
        any = any || logits_[chosen.back()] >= sample_.threshold;
    }
    if (any) {
        return chosen;
    }
    std::vector<uint32_t> high;
    for (size_t i = 0; i < blocks; i++) {
        if (logits_[i] >= sample_.threshold) {
            high.push_back(static_cast<uint32_t>(i));
        }
    }
    if (!high.empty()) {
        chosen[random_() % count] = high[random_() % high.size()];
    }
    return chosen;
}

void LiveSelector::run(const HostReader::Hold& hold, const Loaded& loaded, const QpPicture& first,
                       const QpPicture& before, Decision& decision) {
    const ImageCodes codes = codes_of(first, before);
    const adp_slot& slot = hold.slot().slot;
    if (loaded.run) {
        if (Status ran = loaded.run({slot.params, slot.params_bytes}, codes, logits_); !ran) {
            stats_.state = ran.error().message;
            sample_.flags |= ADP_QP_COMPILING;
            failed_ = true;
            return;
        }
    } else {
        logits_ = interpret(loaded.model, codes);
        sample_.flags |= ADP_QP_INTERPRETED;
    }
    video::BlockMask mask = video::empty_block_mask({static_cast<int>(first.width), static_cast<int>(first.height)});
    for (size_t i = 0; i < mask.high.size(); i++) {
        mask.high[i] = logits_[i] >= sample_.threshold ? 1 : 0;
    }
    decision.mask = video::dilated(mask, options_.dilation);
    decision.share = decision.mask->share();
    decision.generation = loaded.generation;

    sample_.generation = loaded.generation;
    sample_.slot = hold.number();
    sample_.logits_hash = adp_qp_hash(logits_.data(), static_cast<uint32_t>(logits_.size()));
    sample_.share_q16 = static_cast<uint32_t>(std::lround(decision.share * 65536));
    const auto columns = static_cast<uint32_t>(mask.columns);
    for (const uint32_t block : choose_blocks(logits_.size())) {
        adp_qp_sample& sample = samples_.emplace_back();
        sample.column = static_cast<uint16_t>(block % columns);
        sample.row = static_cast<uint16_t>(block / columns);
        sample.output = logits_[block];
        sample.flags = sample.output >= sample_.threshold ? ADP_QP_BLOCK_HIGH : 0;
        const ImageWindow window = window_of(loaded.model.network, codes.size, sample.column, sample.row);
        sample.window_width = static_cast<uint8_t>(window.size.width);
        sample.window_height = static_cast<uint8_t>(window.size.height);
        const ImageCodes part = cut(loaded.model.network, codes, window);
        memcpy(sample.codes, part.codes.data(), std::min(part.codes.size(), sizeof(sample.codes)));
    }
}

LiveSelector::Decision LiveSelector::decide(const QpPicture& first, const QpPicture& before, uint64_t chunk_us) {
    const uint64_t begin_us = monotonic_us();
    connect();
    Decision decision;
    sample_ = {};
    samples_.clear();
    sample_.chunk_us = chunk_us;
    sample_.camera = options_.camera;
    sample_.width = static_cast<uint16_t>(first.width);
    sample_.height = static_cast<uint16_t>(first.height);
    sample_.threshold = static_cast<int32_t>(std::lround(std::clamp(options_.threshold, -32000.0, 32000.0) * 65536));
    sample_.dilation = static_cast<uint8_t>(options_.dilation);
    pending_ = reader_ != nullptr;
    failed_ = false;
    if (reader_ != nullptr) {
        const HostReader::Hold hold = reader_->hold();
        if (!hold.any()) {
            sample_.flags |= ADP_QP_UNIFORM;
            stats_.state = "no snapshot is active";
        } else if (const Loaded* loaded = load(hold); !loaded->error.empty()) {
            sample_.flags |= ADP_QP_COMPILING;
            stats_.state = loaded->error;
            failed_ = true;
        } else if (!loaded->run && ProgramCache::has_compiler()) {
            sample_.flags |= ADP_QP_COMPILING;
            const std::string failure = programs_->failure(loaded->model.network);
            stats_.state = failure.empty() ? "the snapshot's program is being compiled" : failure;
            failed_ = !failure.empty();
        } else {
            run(hold, *loaded, first, before, decision);
        }
    }
    const uint64_t now_us = monotonic_us();
    sample_.time_us = now_us;
    sample_.decision_us = static_cast<uint32_t>(std::min<uint64_t>(now_us - begin_us, UINT32_MAX));
    sample_.us_before =
        decided_us_ == 0 ? 0 : static_cast<uint32_t>(std::min<uint64_t>(now_us - decided_us_, UINT32_MAX));
    decided_us_ = now_us;
    if (decision.mask) {
        sample_.explore = options_.explore;
        decision.explored = options_.explore > 0 && random_() % 256 < options_.explore;
        sample_.flags |= decision.explored ? ADP_QP_EXPLORED : 0;
        stats_.explored += decision.explored ? 1 : 0;
        stats_.decisions++;
        stats_.switches += stats_.generation != 0 && stats_.generation != decision.generation ? 1 : 0;
        stats_.generation = decision.generation;
        stats_.state.clear();
    } else {
        stats_.uniform++;
        stats_.generation = 0;
    }
    return decision;
}

void LiveSelector::record(const Outcome& outcome) {
    if (!pending_) {
        return;
    }
    pending_ = false;
    const uint32_t common_flags = sample_.flags;
    const bool decided = (common_flags & ADP_QP_NOT_DECIDED) == 0;
    sample_.flow = reader_->flow();
    sample_.qp_high = static_cast<uint8_t>(outcome.qp_high);
    sample_.qp_low = static_cast<uint8_t>(outcome.qp_low);
    sample_.bytes_before = static_cast<uint32_t>(std::min<uint64_t>(outcome.bytes_before, UINT32_MAX));
    sample_.budget_before = static_cast<uint32_t>(std::min<uint64_t>(outcome.budget_before, UINT32_MAX));
    if (decided) {
        reader_->count_decision();
    } else {
        reader_->count_fallback(failed_);
    }
    if (samples_.empty()) {
        samples_.emplace_back();
    }
    sample_.parts = static_cast<uint8_t>(samples_.size());
    for (size_t i = 0; i < samples_.size(); i++) {
        const adp_qp_sample& own = samples_[i];
        sample_.seq = ++seq_;
        sample_.part = static_cast<uint8_t>(i);
        sample_.column = own.column;
        sample_.row = own.row;
        sample_.output = own.output;
        sample_.flags = common_flags | own.flags;
        if (decided && outcome.mask != nullptr) {
            const size_t block = size_t{own.row} * static_cast<size_t>(outcome.mask->columns) + own.column;
            sample_.flags |= outcome.mask->high[block] == 0 ? ADP_QP_BLOCK_LOW : 0;
        }
        sample_.window_width = own.window_width;
        sample_.window_height = own.window_height;
        memcpy(sample_.codes, own.codes, sizeof(sample_.codes));
        stats_.samples++;
        if (!reader_->put(std::as_bytes(std::span(&sample_, 1)))) {
            stats_.samples_lost++;
        }
    }
}

}  // namespace adapath
