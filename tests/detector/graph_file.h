// Small TF.js graph models for tests, written as a converter would write them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <vector>

namespace adapath {

// A directory of the test's own, gone with it.
class ScratchDirectory {
public:
    ScratchDirectory() {
        std::string name = (std::filesystem::temp_directory_path() / "adapath-detector-XXXXXX").string();
        path_ = mkdtemp(name.data());
    }
    ~ScratchDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;
    [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

inline void write_text(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

struct GraphFile {
    using json = nlohmann::json;

    json document = {{"format", "graph-model"},
                     {"modelTopology", {{"node", json::array()}}},
                     {"weightsManifest", {{{"paths", {"weights.bin"}}, {"weights", json::array()}}}}};
    std::string bytes;

    json& nodes() { return document["modelTopology"]["node"]; }
    json& weights() { return document["weightsManifest"][0]["weights"]; }
    json& node(const std::string& name) {
        for (json& n : nodes())
            if (n["name"] == name) return n;
        throw std::logic_error("no node " + name);
    }
    json& weight(const std::string& name) {
        for (json& w : weights())
            if (w["name"] == name) return w;
        throw std::logic_error("no weight " + name);
    }

    template <typename T>
    void append(const std::vector<T>& values) {
        bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    }

    void floats(const std::string& name, const std::vector<int64_t>& shape, const std::vector<float>& values) {
        nodes().push_back({{"name", name}, {"op", "Const"}});
        weights().push_back({{"name", name}, {"shape", shape}, {"dtype", "float32"}});
        append(values);
    }
    void halves(const std::string& name, const std::vector<int64_t>& shape, const std::vector<uint16_t>& values) {
        nodes().push_back({{"name", name}, {"op", "Const"}});
        weights().push_back({{"name", name},
                             {"shape", shape},
                             {"dtype", "float32"},
                             {"quantization", {{"dtype", "float16"}, {"original_dtype", "float32"}}}});
        append(values);
    }
    void integers(const std::string& name, const std::vector<int32_t>& values) {
        nodes().push_back({{"name", name}, {"op", "Const"}});
        weights().push_back({{"name", name}, {"shape", {values.size()}}, {"dtype", "int32"}});
        append(values);
    }

    void input(int height, int width, int channels) {
        json dims = json::array();
        for (int d : {1, height, width, channels}) dims.push_back({{"size", std::to_string(d)}});
        nodes().push_back(
            {{"name", "picture"}, {"op", "Placeholder"}, {"attr", {{"shape", {{"shape", {{"dim", dims}}}}}}}});
    }
    void add(const std::string& name, const std::string& op, const std::vector<std::string>& inputs,
             json attributes = json::object()) {
        nodes().push_back({{"name", name}, {"op", op}, {"input", inputs}, {"attr", std::move(attributes)}});
    }
    // What TensorFlow's converter says of a convolution; bytes are in base64: SAME, VALID, NHWC, BiasAdd, Relu.
    static json convolution(int stride, bool same, const std::vector<std::string>& fused = {}) {
        const std::string s = std::to_string(stride);
        return {{"strides", {{"list", {{"i", {"1", s, s, "1"}}}}}},
                {"dilations", {{"list", {{"i", {"1", "1", "1", "1"}}}}}},
                {"padding", {{"s", same ? "U0FNRQ==" : "VkFMSUQ="}}},
                {"data_format", {{"s", "TkhXQw=="}}},
                {"fused_ops", {{"list", {{"s", fused}}}}}};
    }
    inline static const std::string bias_add = "Qmlhc0FkZA==";
    inline static const std::string relu = "UmVsdQ==";

    std::string write(const ScratchDirectory& directory) const {
        write_text(directory.file("weights.bin"), bytes);
        write_text(directory.file("model.json"), document.dump());
        return directory.file("model.json");
    }
};

// Every operation once: a picture of 8x8 with 3 channels through a convolution with stride, a depthwise one, squeeze
// and excitation, a resize and a join.
inline GraphFile every_operation() {
    GraphFile g;
    g.input(8, 8, 3);
    std::vector<float> w(3 * 3 * 3 * 4);
    for (size_t i = 0; i < w.size(); i++) w[i] = std::sin(static_cast<float>(i)) / 4;
    g.floats("conv/w", {3, 3, 3, 4}, w);
    g.floats("conv/b", {4}, {0.1F, -0.2F, 0.3F, 0});
    g.add("conv", "_FusedConv2D", {"picture", "conv/w", "conv/b"},
          GraphFile::convolution(2, true, {GraphFile::bias_add, GraphFile::relu}));
    w.resize(3 * 3 * 4);
    g.floats("deep/w", {3, 3, 4, 1}, w);
    g.add("deep", "DepthwiseConv2dNative", {"conv", "deep/w"}, GraphFile::convolution(1, true));
    g.integers("axes", {1, 2});
    g.add("mean", "Mean", {"deep:0", "axes"}, {{"keep_dims", {{"b", true}}}});
    g.halves("three", {}, {0x4200});
    g.add("more", "Add", {"mean", "three"});
    g.add("six", "Relu6", {"more"});
    g.add("scaled", "Mul", {"deep", "six"});
    g.add("gate", "Sigmoid", {"scaled"});
    g.integers("size", {8, 8});
    g.add("large", "ResizeBilinear", {"gate", "size", "^mean"},
          {{"align_corners", {{"b", false}}}, {"half_pixel_centers", {{"b", false}}}});
    g.integers("axis", {3});
    g.add("joined", "ConcatV2", {"large", "picture", "axis"});
    g.add("clipped", "Relu", {"joined"});
    g.add("out", "Identity", {"clipped"});
    return g;
}

}  // namespace adapath
