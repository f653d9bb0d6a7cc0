// See graph.h.
#include "models/detector/graph.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

namespace adapath {

namespace {

using nlohmann::json;
using Kind = GraphNode::Kind;

// Far above any network that a server runs on live video, far below what would exhaust its memory.
constexpr uint64_t most_json_bytes = 64U << 20;
constexpr uint64_t most_weight_bytes = 1U << 30;
constexpr int64_t most_elements = int64_t{1} << 28;  // of one node's result, and of all weights together
constexpr int64_t longest_side = 16384;
constexpr int64_t largest_kernel = 64;
constexpr int64_t largest_stride = 16;
constexpr int64_t largest_factor = 16;

Result<std::string> read_whole(const std::string& path, uint64_t limit) {
    std::error_code failure;
    const uint64_t bytes = std::filesystem::file_size(path, failure);
    if (failure) return Error{fmt::format("{}: {}", path, failure.message())};
    if (bytes > limit) return Error{fmt::format("{}: {} bytes; at most {} are read", path, bytes, limit)};
    std::ifstream in(path, std::ios::binary);
    std::string content(bytes, '\0');
    if (!in.read(content.data(), static_cast<std::streamsize>(bytes)))
        return Error{fmt::format("{}: cannot be read", path)};
    return content;
}

const json* member(const json& j, const char* name) {
    if (!j.is_object()) return nullptr;
    auto found = j.find(name);
    return found == j.end() ? nullptr : &*found;
}

const json* member(const json& j, std::initializer_list<const char*> path) {
    const json* at = &j;
    for (const char* name : path) {
        at = member(*at, name);
        if (at == nullptr) return nullptr;
    }
    return at;
}

std::string text_of(const json* j) { return j != nullptr && j->is_string() ? j->get<std::string>() : std::string(); }

// Protobuf's JSON writes 64-bit numbers as strings.
std::optional<int64_t> integer_of(const json* j) {
    if (j == nullptr) return std::nullopt;
    if (j->is_number_integer()) return j->get<int64_t>();
    if (!j->is_string()) return std::nullopt;
    const auto& text = j->get_ref<const std::string&>();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<std::vector<int64_t>> integers_of(const json* j) {
    if (j == nullptr || !j->is_array()) return std::nullopt;
    std::vector<int64_t> values;
    for (const json& item : *j) {
        const auto value = integer_of(&item);
        if (!value) return std::nullopt;
        values.push_back(*value);
    }
    return values;
}

// Protobuf's JSON writes bytes in base64; what these are here is short and plain text. Other characters end it.
std::string from_base64(const std::string& text) {
    static constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string bytes;
    uint32_t bits = 0;
    int count = 0;
    for (char c : text) {
        const size_t digit = digits.find(c);
        if (digit == std::string_view::npos) break;
        bits = (bits << 6U) | static_cast<uint32_t>(digit);
        count += 6;
        if (count >= 8) {
            count -= 8;
            bytes.push_back(static_cast<char>((bits >> static_cast<unsigned>(count)) & 0xffU));
        }
    }
    return bytes;
}

// One entry of the manifest.
struct Weight {
    std::vector<int64_t> shape;
    int64_t elements = 0;
    std::string type;  // float32 or int32
    bool half = false;
    size_t group = 0;
    size_t offset = 0;  // in the group's bytes
};

// What a node makes of its inputs; an error says what is wrong with them.
Result<GraphShape> shape_of(const GraphNode& node, const std::vector<GraphShape>& in) {
    switch (node.kind) {
        case Kind::convolution:
        case Kind::depthwise: {
            auto side = [&](int64_t length, int64_t kernel) {
                return node.same ? (length + node.stride - 1) / node.stride : (length - kernel) / node.stride + 1;
            };
            if (!node.same && (in[0].height < node.kernel[2] || in[0].width < node.kernel[3]))
                return Error{fmt::format("{}x{} is smaller than the kernel", in[0].height, in[0].width)};
            return GraphShape{node.kernel[0], side(in[0].height, node.kernel[2]), side(in[0].width, node.kernel[3])};
        }
        case Kind::add:
        case Kind::multiply: {
            if (in.size() == 1) {
                if (node.constant.size() != 1 && static_cast<int64_t>(node.constant.size()) != in[0].channels)
                    return Error{fmt::format("{} numbers for {} channels", node.constant.size(), in[0].channels)};
                return in[0];
            }
            auto wider = [](int64_t a, int64_t b) { return a == b || b == 1 ? a : a == 1 ? b : 0; };
            const GraphShape both{wider(in[0].channels, in[1].channels), wider(in[0].height, in[1].height),
                                  wider(in[0].width, in[1].width)};
            if (both.channels == 0 || both.height == 0 || both.width == 0)
                return Error{fmt::format("{}x{}x{} and {}x{}x{} do not fit", in[0].channels, in[0].height, in[0].width,
                                         in[1].channels, in[1].height, in[1].width)};
            return both;
        }
        case Kind::mean:
            return GraphShape{in[0].channels, 1, 1};
        case Kind::resize:
            return GraphShape{in[0].channels, in[0].height * node.factor, in[0].width * node.factor};
        case Kind::concat: {
            GraphShape all = in[0];
            for (size_t i = 1; i < in.size(); i++) {
                if (in[i].height != all.height || in[i].width != all.width)
                    return Error{fmt::format("{}x{} and {}x{} cannot be joined", all.height, all.width, in[i].height,
                                             in[i].width)};
                all.channels += in[i].channels;
            }
            return all;
        }
        case Kind::input:
        case Kind::relu:
        case Kind::relu6:
        case Kind::sigmoid:
        case Kind::identity:
            return in[0];
    }
    return Error{"unknown kind"};
}

Result<GraphShape> checked_shape(const std::string& file, const GraphNode& node, const std::vector<GraphShape>& in) {
    auto shape = shape_of(node, in);
    if (!shape) return Error{fmt::format("{}: node {}: {}", file, node.name, shape.error().message)};
    if (shape->channels > most_elements || shape->height > most_elements / shape->channels ||
        shape->width > most_elements / shape->channels / shape->height)
        return Error{fmt::format("{}: node {}: {}x{}x{} numbers are more than {}", file, node.name, shape->channels,
                                 shape->height, shape->width, most_elements)};
    return shape;
}

class Reader {
public:
    Reader(std::string path, const std::vector<std::string>& outputs) : path_(std::move(path)), outputs_(outputs) {}

    Result<Graph> read() {
        if (Status s = load(); !s) return s.error();
        if (Status s = order(); !s) return s.error();
        if (graph_.nodes.empty() || graph_.nodes[0].kind != Kind::input)
            return Error{fmt::format("{}: nothing that was asked for depends on an input picture", path_)};
        for (const std::string& name : outputs_) graph_.outputs.push_back(index_.at(name));
        graph_.file = path_;
        return std::move(graph_);
    }

private:
    [[nodiscard]] Error at(const std::string& node, const std::string& what) const {
        return Error{fmt::format("{}: node {}: {}", path_, node, what)};
    }

    // ---- The files ----

    Status load() {
        auto text = read_whole(path_, most_json_bytes);
        if (!text) return text.error();
        document_ = json::parse(*text, nullptr, false);
        if (document_.is_discarded()) return Error{path_ + ": not JSON"};
        const json* nodes = member(document_, {"modelTopology", "node"});
        const json* manifest = member(document_, "weightsManifest");
        if (nodes == nullptr || !nodes->is_array() || manifest == nullptr || !manifest->is_array())
            return Error{path_ + ": not a TF.js graph model (it has no modelTopology.node and weightsManifest)"};
        for (const json& node : *nodes) {
            const std::string name = text_of(member(node, "name"));
            if (name.empty() || text_of(member(node, "op")).empty())
                return Error{path_ + ": a node without name or operation"};
            if (!nodes_.emplace(name, &node).second) return at(name, "there are two of this name");
        }
        for (const json& group : *manifest)
            if (Status s = load_group(group); !s) return s;
        return {};
    }

    Status load_group(const json& group) {
        const json* paths = member(group, "paths");
        const json* weights = member(group, "weights");
        if (paths == nullptr || !paths->is_array() || weights == nullptr || !weights->is_array())
            return Error{path_ + ": weightsManifest: a group without paths or weights"};
        std::string bytes;
        for (const json& item : *paths) {
            const std::string name = text_of(&item);
            // Beside the JSON file: a model has no business elsewhere.
            if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
                return Error{fmt::format("{}: weightsManifest: '{}' is no file name", path_, name)};
            auto part = read_whole((std::filesystem::path(path_).parent_path() / name).string(), most_weight_bytes);
            if (!part) return part.error();
            if (bytes.size() + part->size() > most_weight_bytes)
                return Error{fmt::format("{}: more than {} bytes of weights", path_, most_weight_bytes)};
            bytes += *part;
        }
        size_t offset = 0;
        for (const json& entry : *weights) {
            Weight weight;
            const std::string name = text_of(member(entry, "name"));
            auto fail = [&](const std::string& what) { return at(name, "weights: " + what); };
            const auto shape = integers_of(member(entry, "shape"));
            if (name.empty() || !shape) return fail("no name or no shape");
            weight.shape = *shape;
            weight.elements = 1;
            for (int64_t d : weight.shape) {
                if (d < 1 || d > most_elements || weight.elements > most_elements / d)
                    return fail(fmt::format("impossible shape [{}]", fmt::join(weight.shape, ", ")));
                weight.elements *= d;
            }
            weight.type = text_of(member(entry, "dtype"));
            if (weight.type != "float32" && weight.type != "int32") return fail("type " + weight.type);
            if (const json* quantisation = member(entry, "quantization"); quantisation != nullptr) {
                weight.half = text_of(member(*quantisation, "dtype")) == "float16";
                if (!weight.half || weight.type != "float32")
                    return fail("quantised otherwise than from float32 to float16");
            }
            const auto size = static_cast<size_t>(weight.elements) * (weight.half ? 2 : 4);
            if (size > bytes.size() - offset)
                return fail(fmt::format("cut off: {} bytes of {} are there", bytes.size() - offset, size));
            weight.offset = offset;
            weight.group = groups_.size();
            offset += size;
            if (!weights_.emplace(name, std::move(weight)).second) return fail("there are two of this name");
        }
        if (offset != bytes.size())
            return Error{
                fmt::format("{}: {} bytes of weights beyond those of the manifest", path_, bytes.size() - offset)};
        groups_.push_back(std::move(bytes));
        return {};
    }

    // ---- The order of computation ----

    // Depth first without recursion: a file may be a chain of any length.
    Status order() {
        enum class State { open, done };
        std::unordered_map<std::string, State> states;
        for (const std::string& output : outputs_) {
            std::vector<std::string> stack{output};
            while (!stack.empty()) {
                const std::string name = stack.back();
                auto seen = states.find(name);
                if (seen != states.end()) {
                    stack.pop_back();
                    if (seen->second == State::done) continue;
                    if (Status s = convert(name); !s) return s;
                    seen->second = State::done;
                    continue;
                }
                if (!nodes_.contains(name)) return Error{fmt::format("{}: there is no node {}", path_, name)};
                states[name] = State::open;
                auto inputs = inputs_of(name);
                if (!inputs) return inputs.error();
                for (const std::string& input : *inputs) {
                    auto found = nodes_.find(input);
                    if (found == nodes_.end()) return at(name, "its input " + input + " does not exist");
                    if (is_constant(input)) continue;
                    auto state = states.find(input);
                    if (state != states.end() && state->second == State::open)
                        return at(name, "it depends on itself (by " + input + ")");
                    if (state == states.end()) stack.push_back(input);
                }
            }
        }
        return {};
    }

    Result<std::vector<std::string>> inputs_of(const std::string& name) {
        std::vector<std::string> inputs;
        const json* list = member(*nodes_.at(name), "input");
        if (list == nullptr) return inputs;
        if (!list->is_array()) return at(name, "its inputs are no list");
        for (const json& item : *list) {
            std::string input = text_of(&item);
            if (input.starts_with('^')) continue;  // only an order, and nothing here has side effects
            if (input.ends_with(":0")) input.resize(input.size() - 2);
            inputs.push_back(std::move(input));
        }
        return inputs;
    }

    [[nodiscard]] bool is_constant(const std::string& name) const {
        return text_of(member(*nodes_.at(name), "op")) == "Const";
    }

    // ---- One node ----

    // The operations by TensorFlow's names. Fused ones are told apart by what they carry.
    Status convert(const std::string& name) {
        const json& source = *nodes_.at(name);
        const std::string op = text_of(member(source, "op"));
        auto inputs = inputs_of(name);
        if (!inputs) return inputs.error();
        GraphNode node;
        node.name = name;
        Status status;
        if (op == "Placeholder") {
            status = convert_input(source, node);
        } else if (op == "Conv2D" || op == "_FusedConv2D") {
            node.kind = Kind::convolution;
            status = convert_convolution(source, *inputs, node);
        } else if (op == "DepthwiseConv2dNative" || op == "FusedDepthwiseConv2dNative") {
            node.kind = Kind::depthwise;
            status = convert_convolution(source, *inputs, node);
        } else if (op == "Add" || op == "AddV2" || op == "Mul") {
            node.kind = op == "Mul" ? Kind::multiply : Kind::add;
            status = convert_binary(*inputs, node);
        } else if (op == "Relu" || op == "Relu6" || op == "Sigmoid" || op == "Identity") {
            node.kind = op == "Relu"      ? Kind::relu
                        : op == "Relu6"   ? Kind::relu6
                        : op == "Sigmoid" ? Kind::sigmoid
                                          : Kind::identity;
            status = take_inputs(*inputs, 1, node);
        } else if (op == "Mean") {
            node.kind = Kind::mean;
            status = convert_mean(source, *inputs, node);
        } else if (op == "ResizeBilinear") {
            node.kind = Kind::resize;
            status = convert_resize(source, *inputs, node);
        } else if (op == "ConcatV2") {
            node.kind = Kind::concat;
            status = convert_concat(*inputs, node);
        } else {
            return at(name, "the operation " + op + " is not known here");
        }
        if (!status) return status;
        std::vector<GraphShape> in;
        for (uint32_t i : node.inputs) in.push_back(shapes_[i]);
        if (node.kind == Kind::input) in.push_back(graph_.declared);
        auto shape = checked_shape(path_, node, in);
        if (!shape) return shape.error();
        shapes_.push_back(*shape);
        index_[name] = static_cast<uint32_t>(graph_.nodes.size());
        graph_.nodes.push_back(std::move(node));
        return {};
    }

    Status convert_input(const json& source, GraphNode& node) {
        node.kind = Kind::input;
        if (!graph_.nodes.empty()) return at(node.name, "a second input, or one that does not come first");
        const json* dims = member(source, {"attr", "shape", "shape", "dim"});
        std::vector<int64_t> shape;
        if (dims != nullptr && dims->is_array())
            for (const json& d : *dims) shape.push_back(integer_of(member(d, "size")).value_or(0));
        if (shape.size() != 4 || shape[0] != 1 || shape[1] < 1 || shape[1] > longest_side || shape[2] < 1 ||
            shape[2] > longest_side || shape[3] < 1 || shape[3] > longest_side)
            return at(node.name,
                      fmt::format("an input of shape [{}], not [1, height, width, channels]", fmt::join(shape, ", ")));
        graph_.declared = {shape[3], shape[1], shape[2]};
        return {};
    }

    // The first `count` inputs, which must be computed ones.
    Status take_inputs(const std::vector<std::string>& inputs, size_t count, GraphNode& node) {
        if (inputs.size() < count) return at(node.name, fmt::format("{} inputs, not {}", inputs.size(), count));
        for (size_t i = 0; i < count; i++) {
            auto found = index_.find(inputs[i]);
            if (found == index_.end()) return at(node.name, "its input " + inputs[i] + " is a constant");
            node.inputs.push_back(found->second);
        }
        return {};
    }

    Status convert_convolution(const json& source, const std::vector<std::string>& inputs, GraphNode& node) {
        if (Status s = take_inputs(inputs, 1, node); !s) return s;
        if (inputs.size() < 2) return at(node.name, "no weights");
        auto weight = floats(node.name, inputs[1]);
        if (!weight) return weight.error();
        const std::vector<int64_t>& shape = weight->shape;
        if (shape.size() != 4 || shape[0] > largest_kernel || shape[1] > largest_kernel)
            return at(node.name, fmt::format("weights of shape [{}]", fmt::join(shape, ", ")));
        if (const int64_t channels = shapes_[node.inputs[0]].channels; shape[2] != channels)
            return at(node.name,
                      fmt::format("{} channels into weights of shape [{}]", channels, fmt::join(shape, ", ")));

        const auto strides = integers_of(member(source, {"attr", "strides", "list", "i"}));
        if (!strides || strides->size() != 4 || (*strides)[0] != 1 || (*strides)[3] != 1 ||
            (*strides)[1] != (*strides)[2] || (*strides)[1] < 1 || (*strides)[1] > largest_stride)
            return at(node.name, "its strides are missing or not [1, n, n, 1]");
        node.stride = (*strides)[1];
        const json* dilations = member(source, {"attr", "dilations", "list", "i"});
        if (dilations != nullptr && integers_of(dilations) != std::vector<int64_t>{1, 1, 1, 1})
            return at(node.name, "dilated convolutions are not known here");
        const std::string format = from_base64(text_of(member(source, {"attr", "data_format", "s"})));
        if (!format.empty() && format != "NHWC") return at(node.name, "its data are " + format + ", not NHWC");
        const std::string padding = from_base64(text_of(member(source, {"attr", "padding", "s"})));
        if (padding != "SAME" && padding != "VALID") return at(node.name, "padding '" + padding + "'");
        node.same = padding == "SAME";

        transpose(shape, weight->values, node);
        const auto outputs = node.kernel[0];
        bool biased = false;
        if (const json* fused = member(source, {"attr", "fused_ops", "list", "s"}); fused != nullptr) {
            for (const json& item : *fused) {
                const std::string what = from_base64(text_of(&item));
                if (what == "BiasAdd" && !biased && node.then == Kind::identity) {
                    biased = true;
                } else if ((what == "Relu" || what == "Relu6") && node.then == Kind::identity) {
                    node.then = what == "Relu" ? Kind::relu : Kind::relu6;
                } else {
                    return at(node.name, "fused with '" + what + "', which is not known here");
                }
            }
        }
        if (inputs.size() != (biased ? 3U : 2U)) return at(node.name, fmt::format("{} inputs", inputs.size()));
        if (biased) {
            auto bias = floats(node.name, inputs[2]);
            if (!bias) return bias.error();
            if (bias->shape != std::vector<int64_t>{outputs})
                return at(node.name,
                          fmt::format("a bias of shape [{}] for {} channels", fmt::join(bias->shape, ", "), outputs));
            node.bias = std::move(bias->values);
        }
        return {};
    }

    // From [height, width, inputs, outputs or multiplier] to GraphNode's order.
    static void transpose(const std::vector<int64_t>& shape, const std::vector<float>& from, GraphNode& node) {
        const int64_t area = shape[0] * shape[1];
        const int64_t inputs = shape[2];
        const int64_t outputs = shape[3];
        const bool depthwise = node.kind == Kind::depthwise;
        node.kernel = depthwise ? std::vector<int64_t>{inputs * outputs, 1, shape[0], shape[1]}
                                : std::vector<int64_t>{outputs, inputs, shape[0], shape[1]};
        node.weights.resize(from.size());
        for (int64_t p = 0; p < area; p++)
            for (int64_t i = 0; i < inputs; i++)
                for (int64_t o = 0; o < outputs; o++) {
                    const int64_t row = depthwise ? i * outputs + o : o * inputs + i;
                    node.weights[static_cast<size_t>(row * area + p)] =
                        from[static_cast<size_t>((p * inputs + i) * outputs + o)];
                }
    }

    Status convert_binary(const std::vector<std::string>& inputs, GraphNode& node) {
        if (inputs.size() != 2) return at(node.name, fmt::format("{} inputs, not 2", inputs.size()));
        for (const std::string& input : inputs) {
            if (auto found = index_.find(input); found != index_.end()) {
                node.inputs.push_back(found->second);
                continue;
            }
            auto constant = floats(node.name, input);
            if (!constant) return constant.error();
            // Along the channels, TensorFlow's last dimension.
            if (!constant->shape.empty() && static_cast<size_t>(constant->shape.back()) != constant->values.size())
                return at(node.name, fmt::format("a constant of shape [{}]", fmt::join(constant->shape, ", ")));
            node.constant = std::move(constant->values);
        }
        if (node.inputs.empty()) return at(node.name, "both of its inputs are constants");
        return {};
    }

    Status convert_mean(const json& source, const std::vector<std::string>& inputs, GraphNode& node) {
        if (Status s = take_inputs(inputs, 1, node); !s) return s;
        if (inputs.size() != 2) return at(node.name, "no axes");
        auto axes = integers(node.name, inputs[1]);
        if (!axes) return axes.error();
        const json* keep = member(source, {"attr", "keep_dims", "b"});
        if (*axes != std::vector<int64_t>{1, 2} || keep == nullptr || !keep->is_boolean() || !keep->get<bool>())
            return at(node.name, "only means over height and width that keep the dimensions are known here");
        return {};
    }

    Status convert_resize(const json& source, const std::vector<std::string>& inputs, GraphNode& node) {
        if (Status s = take_inputs(inputs, 1, node); !s) return s;
        if (inputs.size() != 2) return at(node.name, "no size");
        for (const char* flag : {"align_corners", "half_pixel_centers"}) {
            const json* set = member(source, {"attr", flag, "b"});
            if (set != nullptr && (!set->is_boolean() || set->get<bool>()))
                return at(node.name, std::string(flag) + " is not known here");
        }
        auto size = integers(node.name, inputs[1]);
        if (!size) return size.error();
        // The file has the size for the input that it declares; the network is to take others too, so only the ratio
        // counts.
        const GraphShape& from = shapes_[node.inputs[0]];
        if (size->size() != 2 || (*size)[0] < 1 || (*size)[0] % from.height != 0 || (*size)[1] < 1 ||
            (*size)[1] % from.width != 0 || (*size)[0] / from.height != (*size)[1] / from.width ||
            (*size)[0] / from.height > largest_factor)
            return at(node.name, fmt::format("from {}x{} to [{}]: only whole factors up to {}, the same both ways",
                                             from.height, from.width, fmt::join(*size, ", "), largest_factor));
        node.factor = (*size)[0] / from.height;
        return {};
    }

    Status convert_concat(const std::vector<std::string>& inputs, GraphNode& node) {
        if (inputs.size() < 2) return at(node.name, "nothing to join");
        if (Status s = take_inputs(inputs, inputs.size() - 1, node); !s) return s;
        auto axis = integers(node.name, inputs.back());
        if (!axis) return axis.error();
        if (*axis != std::vector<int64_t>{3} && *axis != std::vector<int64_t>{-1})
            return at(node.name, "only joining of channels is known here");
        return {};
    }

    // ---- Constants ----

    struct Floats {
        std::vector<int64_t> shape;
        std::vector<float> values;
    };

    Result<const Weight*> weight(const std::string& node, const std::string& name, const char* type) {
        auto found = weights_.find(name);
        if (found == weights_.end()) return at(node, "the weights have no " + name);
        if (found->second.type != type)
            return at(node, fmt::format("{} is {}, not {}", name, found->second.type, type));
        return &found->second;
    }

    Result<Floats> floats(const std::string& node, const std::string& name) {
        auto found = weight(node, name, "float32");
        if (!found) return found.error();
        const Weight& w = **found;
        // Nodes may share weights, so the files' sizes are no bound.
        taken_ += w.elements;
        if (taken_ > most_elements) return at(node, fmt::format("more than {} weights in all", most_elements));
        Floats result{w.shape, std::vector<float>(static_cast<size_t>(w.elements))};
        const char* from = groups_[w.group].data() + w.offset;
        for (float& value : result.values) {
            if (w.half) {
                uint16_t half = 0;
                std::memcpy(&half, from, sizeof half);
                value = float_of_half(half);
                from += sizeof half;
            } else {
                std::memcpy(&value, from, sizeof value);
                from += sizeof value;
            }
            if (!std::isfinite(value)) return at(node, name + " has a weight that is no finite number");
        }
        return result;
    }

    Result<std::vector<int64_t>> integers(const std::string& node, const std::string& name) {
        auto found = weight(node, name, "int32");
        if (!found) return found.error();
        const Weight& w = **found;
        if (w.elements > 8) return at(node, fmt::format("{} has {} numbers", name, w.elements));
        std::vector<int64_t> values;
        for (int64_t i = 0; i < w.elements; i++) {
            int32_t value = 0;
            std::memcpy(&value, groups_[w.group].data() + w.offset + static_cast<size_t>(i) * sizeof value,
                        sizeof value);
            values.push_back(value);
        }
        return values;
    }

    std::string path_;
    const std::vector<std::string>& outputs_;
    json document_;
    std::unordered_map<std::string, const json*> nodes_;
    std::unordered_map<std::string, Weight> weights_;
    std::vector<std::string> groups_;
    std::unordered_map<std::string, uint32_t> index_;  // of what is in graph_.nodes
    int64_t taken_ = 0;
    Graph graph_;
    std::vector<GraphShape> shapes_;  // of graph_.nodes, for the declared input
};

}  // namespace

Result<Graph> read_graph(const std::string& path, const std::vector<std::string>& outputs) {
    return Reader(path, outputs).read();
}

Result<std::vector<GraphShape>> infer_shapes(const Graph& graph, int64_t height, int64_t width) {
    if (height < 1 || width < 1 || height > longest_side || width > longest_side)
        return Error{
            fmt::format("{}: a picture of {}x{}; sides are from 1 to {}", graph.file, width, height, longest_side)};
    std::vector<GraphShape> shapes;
    for (const GraphNode& node : graph.nodes) {
        std::vector<GraphShape> in;
        for (uint32_t i : node.inputs) in.push_back(shapes[i]);
        if (node.kind == Kind::input) in.push_back({graph.declared.channels, height, width});
        auto shape = checked_shape(graph.file, node, in);
        if (!shape) return shape.error();
        shapes.push_back(*shape);
    }
    return shapes;
}

float float_of_half(uint16_t half) {
    const uint32_t sign = (half & 0x8000U) << 16U;
    const uint32_t exponent = (half >> 10U) & 0x1fU;
    const uint32_t fraction = half & 0x3ffU;
    if (exponent == 0) {
        const float magnitude = std::ldexp(static_cast<float>(fraction), -24);
        return sign != 0 ? -magnitude : magnitude;
    }
    const uint32_t wide = exponent == 0x1f ? 0xffU : exponent + 112;
    return std::bit_cast<float>(sign | (wide << 23U) | (fraction << 13U));
}

}  // namespace adapath
