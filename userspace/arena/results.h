// The raw results: one JSON line a finished cell, on disk before the next begins. A second run goes on from them.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "codegen/result.h"
#include "userspace/arena/cell.h"
#include "userspace/common/unique_fd.h"

namespace adapath::arena {

Json inputs_json(const CellInputs& inputs);
// 16 hex digits, of the inputs and nothing else.
std::string cell_key(const CellInputs& inputs);

// All whole lines of the file, the newest last; none where there is no file. A last line without its end, which a crash
// leaves behind, is left out.
Result<std::vector<Json>> read_results(const std::string& path);

class ResultFile {
public:
    // Made where it is missing; `fresh` empties it. One program at a time.
    static Result<ResultFile> open(const std::string& path, bool fresh);
    [[nodiscard]] bool has(const std::string& key) const { return keys_.contains(key); }
    // Durable when it returns.
    Status append(const Json& line);
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    ResultFile() = default;
    std::string path_;
    UniqueFd fd_;
    std::unordered_set<std::string> keys_;
};

}  // namespace adapath::arena
