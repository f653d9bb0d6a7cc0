// See verifier.h.
#include "userspace/adapathd/verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

#include "userspace/adapathd/sample_log.h"
#include "userspace/adapathd/snapshot_store.h"
#include "userspace/common/clock.h"

namespace adapath {
namespace {

// Models kept ready. More than the slots, so that live verification never reads a file twice; a log is in order anyway.
constexpr size_t kModels = 64;
constexpr size_t kDetails = 10;

}  // namespace

Verifier::Entry& Verifier::find(uint32_t generation, bool image) {
    uses_++;
    auto found = cache_.find(generation);
    if (found == cache_.end()) {
        if (cache_.size() >= kModels) {
            cache_.erase(std::min_element(cache_.begin(), cache_.end(),
                                          [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
        }
        Entry entry;
        const auto keep = [&entry](auto loaded, auto& model) {
            if (loaded) {
                model = *loaded;
            } else {
                entry.error = loaded.error().message;
            }
        };
        if (!image) {
            keep(load_(generation), entry.model);
        } else if (load_image_) {
            keep(load_image_(generation), entry.image);
        } else {
            entry.error = "made by an image network, which is not explained here";
        }
        found = cache_.emplace(generation, std::move(entry)).first;
    }
    found->second.used = uses_;
    return found->second;
}

// What the sample's output has to be; an error where that can't be known.
std::vector<int32_t> Verifier::expected(Entry& entry, const DecodedSample& sample, std::string& error) {
    if (!sample.in_float) {
        return interpret(*entry.model, sample.input);
    }
    if (!entry.runner) {
        Result<std::shared_ptr<const FloatModel>> model =
            load_float_
                ? load_float_(sample.generation)
                : Result<std::shared_ptr<const FloatModel>>(Error{"made in float, which is not explained here"});
        if (model && (*model)->weights.empty()) {
            model = Error{"made in float, and its snapshot carries no float model"};
        }
        if (!model) {
            error = model.error().message;
            return {};
        }
        entry.runner = std::make_shared<FloatRunner>(**model);
    }
    // Only the first output is ever run in float; the others stay 0.
    std::vector<int32_t> outputs(ADP_MAX_OUTPUTS, 0);
    outputs[0] = entry.runner->run_q16(sample.input.data());
    return outputs;
}

std::string Verifier::explain_image(const App& app, const DecodedSample& sample, const std::string& where) {
    const Entry& entry = find(sample.generation, true);
    if (entry.image == nullptr) {
        return where + ": " + entry.error;
    }
    const ImageNetwork& network = entry.image->network;
    if (Status fits = app.accepts(network); !fits) {
        return where + ": " + fits.error().message;
    }
    const ImageSize outputs = output_size(network, sample.picture);
    if (sample.place.width >= outputs.width || sample.place.height >= outputs.height) {
        return fmt::format("{}: place {},{} of {}x{} outputs", where, sample.place.width, sample.place.height,
                           outputs.width, outputs.height);
    }
    const ImageWindow window = window_of(network, sample.picture, sample.place.width, sample.place.height);
    if (window.size != sample.window ||
        sample.input.size() != network.inputs.size() * sample.window.width * sample.window.height) {
        return fmt::format("{}: a window of {}x{}, the place's is {}x{}", where, sample.window.width,
                           sample.window.height, window.size.width, window.size.height);
    }
    const ImageCodes codes{window.size, {sample.input.begin(), sample.input.end()}};
    const std::vector<int32_t> values = interpret(*entry.image, codes);
    const ImageSize size = output_size(network, window.size);
    for (size_t i = 0; i < app.output_count(); i++) {
        const int32_t expected = values[(i * size.height + window.at.height) * size.width + window.at.width];
        if (sample.output[i] != expected) {
            return fmt::format("{}: output {} at {},{} is {}, the snapshot gives {} for this window", where, i,
                               sample.place.width, sample.place.height, sample.output[i], expected);
        }
    }
    if (!sample.action_sound) {
        return fmt::format("{}: action {} does not follow from output {}", where, sample.action, sample.output[0]);
    }
    return {};
}

std::string Verifier::explain(const App& app, const DecodedSample& sample) {
    const auto where = [&] {
        return fmt::format("flow {} decision {} generation {}", sample.flow, sample.seq, sample.generation);
    };
    if (sample.generation == 0) {
        return where() + ": made by a network, but names no generation";
    }
    if (sample.window != ImageSize{}) {
        return explain_image(app, sample, where());
    }
    Entry& entry = find(sample.generation, false);
    if (entry.model == nullptr) {
        return where() + ": " + entry.error;
    }
    if (Status fits = app.accepts(entry.model->network); !fits) {
        return where() + ": " + fits.error().message;
    }
    std::string error;
    const std::vector<int32_t> outputs = expected(entry, sample, error);
    if (!error.empty()) {
        return where() + ": " + error;
    }
    for (size_t i = 0; i < app.output_count(); i++) {
        if (sample.output[i] != outputs[i]) {
            return fmt::format("{}: output {} is {}, the snapshot gives {} for this input", where(), i,
                               sample.output[i], outputs[i]);
        }
    }
    if (!sample.action_sound) {
        return fmt::format("{}: action {} does not follow from output {} and noise {}", where(), sample.action,
                           sample.output[0], sample.noise);
    }
    return {};
}

Result<VerifyReport> verify_state_directory(const std::string& state_directory, const App& app) {
    Result<SnapshotStore> store = SnapshotStore::open(state_directory, true);
    if (!store) {
        return store.error();
    }
    const auto load = [&](uint32_t generation) -> Result<Snapshot> {
        std::string hash = store->hash_of(generation);
        if (hash.empty()) {
            // A running daemon may have installed it after the journal was read.
            if (Result<SnapshotStore> again = SnapshotStore::open(state_directory, true)) {
                *store = std::move(*again);
                hash = store->hash_of(generation);
            }
        }
        if (hash.empty()) {
            return Error{fmt::format("generation {} is not in {}/generations", generation, state_directory)};
        }
        return store->load(hash);
    };
    Verifier verifier(
        [&](uint32_t generation) -> Result<std::shared_ptr<const QuantModel>> {
            Result<Snapshot> snapshot = load(generation);
            if (!snapshot) {
                return snapshot.error();
            }
            return std::make_shared<const QuantModel>(std::move(snapshot->model));
        },
        [&](uint32_t generation) -> Result<std::shared_ptr<const FloatModel>> {
            Result<Snapshot> snapshot = load(generation);
            if (!snapshot) {
                return snapshot.error();
            }
            return std::make_shared<const FloatModel>(std::move(snapshot->reference));
        },
        [&](uint32_t generation) -> Result<std::shared_ptr<const ImageQuantModel>> {
            Result<Snapshot> snapshot = load(generation);
            if (!snapshot) {
                return snapshot.error();
            }
            if (!snapshot->image) {
                return Error{fmt::format("generation {} holds no image network", generation)};
            }
            return std::make_shared<const ImageQuantModel>(std::move(snapshot->image->model));
        });
    VerifyReport report;
    struct Flow {
        uint32_t seq;
        uint32_t generation;
    };
    std::unordered_map<uint64_t, Flow> flows;
    std::set<uint32_t> generations;
    std::string boot;
    const uint64_t begin_ns = monotonic_ns();
    Result<LogReadResult> read = read_sample_log(
        state_directory + "/samples", app, [&](std::span<const std::byte> records, const std::string& boot_id) {
            if (boot_id != boot) {
                boot = boot_id;
                flows.clear();  // flow numbers begin again
            }
            for (size_t at = 0; at < records.size(); at += app.record_bytes()) {
                const DecodedSample sample = app.decode(records.subspan(at, app.record_bytes()));
                auto [flow, fresh] = flows.try_emplace(sample.flow, Flow{sample.seq, sample.generation});
                if (fresh) {
                    report.flows++;
                } else {
                    if (sample.seq > flow->second.seq + 1) {
                        report.gaps += sample.seq - flow->second.seq - 1;
                    }
                    report.switches += sample.generation != flow->second.generation ? 1 : 0;
                    flow->second = Flow{sample.seq, sample.generation};
                }
                if (!sample.made_by_network) {
                    report.fallbacks++;
                    continue;
                }
                report.decisions++;
                generations.insert(sample.generation);
                std::string why = verifier.explain(app, sample);
                if (why.empty()) {
                    report.explained++;
                } else {
                    report.unexplained++;
                    if (report.details.size() < kDetails) {
                        report.details.push_back(std::move(why));
                    }
                }
            }
            return true;
        });
    if (!read) {
        return read.error();
    }
    report.files = read->files;
    report.records = read->records;
    report.truncated_bytes = read->truncated_bytes;
    report.generations = generations.size();
    report.unreadable = read->unreadable.size();
    for (const std::string& file : read->unreadable) {
        report.details.push_back(file);
    }
    report.seconds = static_cast<double>(monotonic_ns() - begin_ns) / 1e9;
    return report;
}

}  // namespace adapath
