// See dataset.h.
#include "models/select/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "userspace/common/json_lines.h"

namespace adapath {

namespace {

using Json = nlohmann::json;

bool is_share(double value) { return value >= 0 && value <= 1; }

// Throws what nlohmann throws.
SelectChunk chunk_from(const Json& json) {
    SelectChunk chunk;
    chunk.first = json.at("first");
    for (size_t r = 0; r < 2; r++) {
        chunk.bytes[r] = json.at("bytes").at(r).get<std::vector<uint32_t>>();
        chunk.accuracy[r] = json.at("accuracy").at(r);
        chunk.objects[r] = json.at("objects").at(r);
        chunk.confidence[r] = json.at("confidence").at(r);
    }
    return chunk;
}

bool sound(const SelectChunk& chunk) {
    if (chunk.bytes[0].empty() || chunk.bytes[0].size() != chunk.bytes[1].size()) return false;
    for (size_t r = 0; r < 2; r++) {
        if (!is_share(chunk.accuracy[r]) || !is_share(chunk.confidence[r]) || !(chunk.objects[r] >= 0) ||
            std::ranges::find(chunk.bytes[r], 0U) != chunk.bytes[r].end())
            return false;
    }
    return true;
}

}  // namespace

std::string to_json_line(const SelectView& view, bool late, const SelectChunk& chunk) {
    // Three places are more than the measurement is good for.
    const auto rounded = [](const std::array<double, 2>& values) {
        return Json{std::round(values[0] * 1000) / 1000, std::round(values[1] * 1000) / 1000};
    };
    return Json{{"view", view.name},
                {"held_out", view.held_out},
                {"fps", view.fps},
                {"late", late},
                {"first", chunk.first},
                {"bytes", chunk.bytes},
                {"accuracy", rounded(chunk.accuracy)},
                {"objects", rounded(chunk.objects)},
                {"confidence", rounded(chunk.confidence)}}
        .dump();
}

Result<SelectDataset> SelectDataset::read(const std::string& path) {
    std::ifstream in(path);
    if (!in) return Error{path + ": cannot be read: measure it with adapath-train-select (make models)"};
    SelectDataset dataset;
    Status taken = read_json_lines(in, path, [&dataset](const Json& json) -> Status {
        const std::string name = json.at("view");
        auto view = std::ranges::find(dataset.views, name, &SelectView::name);
        if (view == dataset.views.end()) {
            dataset.views.push_back({name, json.at("held_out"), json.at("fps"), {}, {}});
            view = dataset.views.end() - 1;
        }
        SelectChunk chunk = chunk_from(json);
        if (!sound(chunk) || !(view->fps > 0)) return Error{"numbers out of range; remove the file"};
        (json.at("late").get<bool>() ? view->late : view->early).push_back(std::move(chunk));
        return {};
    });
    if (!taken) return taken.error();
    for (SelectView& view : dataset.views) {
        for (std::vector<SelectChunk>* chunks : {&view.late, &view.early}) {
            if (chunks->empty()) return Error{fmt::format("{}: view {} has chunks of one half only", path, view.name)};
            std::ranges::sort(*chunks, {}, &SelectChunk::first);
        }
    }
    if (dataset.views.empty()) return Error{path + ": holds no chunk"};
    std::ranges::sort(dataset.views, {}, &SelectView::name);
    return dataset;
}

}  // namespace adapath
