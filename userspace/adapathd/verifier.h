// Explains decisions: runs the reference interpreter (backend userspace: the float model) on a sample's input with the
// snapshot of its generation and compares every output. Used live by the daemon, for every decision, and over a log by
// `adapathctl verify`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "models/float_runner.h"
#include "userspace/adapathd/app.h"

namespace adapath {

class Verifier {
public:
    // Finds the model of a generation; its error becomes the reason that decisions of that generation are unexplained.
    using Load = std::function<Result<std::shared_ptr<const QuantModel>>(uint32_t generation)>;
    using LoadFloat = std::function<Result<std::shared_ptr<const FloatModel>>(uint32_t generation)>;
    using LoadImage = std::function<Result<std::shared_ptr<const ImageQuantModel>>(uint32_t generation)>;
    // `load_float`: for decisions that were made in float; `load_image`: for those of image networks. Without them
    // these can't be explained.
    explicit Verifier(Load load, LoadFloat load_float = {}, LoadImage load_image = {})
        : load_(std::move(load)), load_float_(std::move(load_float)), load_image_(std::move(load_image)) {}

    // Empty = explained; else what differs. Only for samples with made_by_network.
    std::string explain(const App& app, const DecodedSample& sample);

private:
    struct Entry {
        std::shared_ptr<const QuantModel> model;  // null: `error` says why
        std::shared_ptr<const ImageQuantModel> image;
        std::shared_ptr<FloatRunner> runner;  // made when it is first needed
        std::string error;
        uint64_t used = 0;
    };
    Entry& find(uint32_t generation, bool image);
    std::string explain_image(const App& app, const DecodedSample& sample, const std::string& where);
    std::vector<int32_t> expected(Entry& entry, const DecodedSample& sample, std::string& error);

    Load load_;
    LoadFloat load_float_;
    LoadImage load_image_;
    std::unordered_map<uint32_t, Entry> cache_;
    uint64_t uses_ = 0;
};

// What `adapathctl verify` reports about a state directory.
struct VerifyReport {
    uint64_t files = 0;
    uint64_t records = 0;
    uint64_t decisions = 0;  // made by a snapshot
    uint64_t explained = 0;
    uint64_t unexplained = 0;
    uint64_t fallbacks = 0;  // made by no snapshot: start-up or fallback
    uint64_t gaps = 0;       // samples missing by sequence number
    uint64_t flows = 0;
    uint64_t generations = 0;  // seen in the log
    uint64_t switches = 0;     // changes of generation, within flows
    uint64_t truncated_bytes = 0;
    uint64_t unreadable = 0;           // files that are no log of this app
    std::vector<std::string> details;  // of the first unexplained decisions, and of unreadable files
    double seconds = 0;
};
Result<VerifyReport> verify_state_directory(const std::string& state_directory, const App& app);

}  // namespace adapath
