// See detections.h.
#include "userspace/server/detections.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>

extern "C" {
#include <libavutil/frame.h>
#include <libavutil/pixdesc.h>
}

#include <fmt/format.h>
#include <openssl/evp.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "userspace/common/file.h"
#include "userspace/detect/pictures.h"

namespace adapath {

namespace {

using Json = nlohmann::json;

// Longer ones are not ours: 300 boxes take some 30 kB.
constexpr size_t longest_line = 1 << 20;
constexpr size_t most_boxes = 10'000;

class Sha256 {
public:
    Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
        EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
    }
    void add(const void* bytes, size_t size) { EVP_DigestUpdate(context_.get(), bytes, size); }
    void add(int64_t number) { add(&number, sizeof number); }
    std::array<uint8_t, 32> end() {
        std::array<uint8_t, 32> digest{};
        EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr);
        return digest;
    }

private:
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

template <typename Bytes>
std::string hex(const Bytes& bytes) {
    std::string text;
    for (uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
    return text;
}

std::optional<PictureKey> key_of(const std::string& text) {
    PictureKey key;
    if (text.size() != 2 * key.bytes.size()) return std::nullopt;
    for (size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return std::nullopt;
        key.bytes[i / 2] = static_cast<uint8_t>(key.bytes[i / 2] << 4 | digit);
    }
    return key;
}

// The shortest digits that give the same float again.
std::string line_of(const PictureKey& key, const std::vector<Box>& boxes) {
    std::string line = fmt::format("{{\"key\":\"{}\",\"boxes\":[", key.text());
    for (size_t i = 0; i < boxes.size(); i++) {
        const Box& b = boxes[i];
        line += fmt::format("{}[{},{},{},{},{},{}]", i == 0 ? "" : ",", b.x0, b.y0, b.x1, b.y1, b.score, b.class_id);
    }
    return line + "]}\n";
}

std::optional<std::pair<PictureKey, std::vector<Box>>> entry_of(const std::string& line) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("key") || !json["key"].is_string() || !json.contains("boxes") ||
        !json["boxes"].is_array() || json["boxes"].size() > most_boxes)
        return std::nullopt;
    const std::optional<PictureKey> key = key_of(json["key"].get<std::string>());
    if (!key) return std::nullopt;
    std::vector<Box> boxes;
    for (const Json& row : json["boxes"]) {
        if (!row.is_array() || row.size() != 6) return std::nullopt;
        for (const Json& number : row)
            if (!number.is_number() || !std::isfinite(number.get<float>())) return std::nullopt;
        boxes.push_back({row[0].get<float>(), row[1].get<float>(), row[2].get<float>(), row[3].get<float>(),
                         row[4].get<float>(), row[5].get<int>()});
    }
    return std::pair{*key, std::move(boxes)};
}

}  // namespace

std::string PictureKey::text() const { return hex(bytes); }

size_t Detections::KeyHash::operator()(const PictureKey& key) const {
    size_t hash = 0;
    std::memcpy(&hash, key.bytes.data(), sizeof hash);  // of a cryptographic hash, any part will do
    return hash;
}

Result<PictureKey> picture_key(const AVFrame& frame) {
    const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
    if (format == nullptr || (format->flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_PAL)) != 0 ||
        frame.width < 1 || frame.height < 1)
        return Error{fmt::format("a picture of {}x{} in pixel format {} has no planes to hash", frame.width,
                                 frame.height, frame.format)};
    Sha256 hash;
    for (int64_t number : {int64_t{frame.width}, int64_t{frame.height}, int64_t{frame.format},
                           static_cast<int64_t>(frame.colorspace), static_cast<int64_t>(frame.color_range)})
        hash.add(number);
    int widest[4] = {};  // bytes of a pixel, by plane
    for (int c = 0; c < format->nb_components; c++)
        widest[format->comp[c].plane] = std::max(widest[format->comp[c].plane], format->comp[c].step);
    for (int plane = 0; plane < 4 && widest[plane] != 0; plane++) {
        const bool chroma = plane == 1 || plane == 2;
        const int width = chroma ? -((-frame.width) >> format->log2_chroma_w) : frame.width;
        const int height = chroma ? -((-frame.height) >> format->log2_chroma_h) : frame.height;
        if (frame.data[plane] == nullptr) return Error{"a picture without pixels"};
        for (int y = 0; y < height; y++)
            hash.add(frame.data[plane] + static_cast<ptrdiff_t>(y) * frame.linesize[plane],
                     static_cast<size_t>(width) * static_cast<size_t>(widest[plane]));
    }
    const std::array<uint8_t, 32> digest = hash.end();
    PictureKey key;
    std::copy_n(digest.begin(), key.bytes.size(), key.bytes.begin());
    return key;
}

Result<std::string> model_hash(const std::string& path) {
    Result<std::string> content = read_file(path);
    if (!content) return content.error();
    Sha256 hash;
    hash.add(content->data(), content->size());
    if (path.ends_with(".json")) {
        const Json json = Json::parse(*content, nullptr, false);
        const Json manifest = json.is_object() ? json.value("weightsManifest", Json::array()) : Json::array();
        const size_t slash = path.rfind('/');
        const std::string directory = slash == std::string::npos ? "" : path.substr(0, slash + 1);
        for (const Json& group : manifest) {
            for (const Json& name : group.is_object() ? group.value("paths", Json::array()) : Json::array()) {
                if (!name.is_string()) return Error{path + ": weightsManifest has a path that is no text"};
                Result<std::string> weights = read_file(directory + name.get<std::string>());
                if (!weights) return weights.error();
                hash.add(weights->data(), weights->size());
            }
        }
    }
    return hex(hash.end());
}

Result<std::unique_ptr<Detections>> Detections::open(const Options& options) {
    std::unique_ptr<Detections> detections(new Detections(options));
    if (!options.file.empty()) {
        if (Status loaded = detections->load(); !loaded) return loaded.error();
    }
    return detections;
}

Status Detections::load() {
    const std::string& path = options_.file;
    const bool writes = !options_.model.empty();
    fd_ = UniqueFd(::open(path.c_str(), (writes ? O_RDWR | O_CREAT : O_RDONLY) | O_APPEND | O_CLOEXEC, 0644));
    if (!fd_.valid()) return Error{errno_text("cannot open " + path)};
    // One program at a time looks whether the file has its first line; later lines are appended whole.
    if (flock(fd_.get(), LOCK_EX) != 0) return Error{errno_text("cannot lock " + path)};
    std::ifstream file(path);
    std::string line;
    bool first = true;
    bool ends_whole = true;
    while (std::getline(file, line)) {
        ends_whole = !file.eof();  // at the end without a newline
        if (first) {
            first = false;
            const Json head = Json::parse(line, nullptr, false);
            if (!head.is_object() || head.value("detections", Json()) != Json(1) ||
                !head.value("model", Json()).is_string())
                return Error{path + ": it is no file of detections (its first line would say so): name another one"};
            const std::string model = head["model"].get<std::string>();
            if (options_.model.empty()) options_.model = model;
            if (model != options_.model)
                return Error{fmt::format(
                    "{}: its boxes are of another vision network ({:.12} instead of {:.12}): name another file", path,
                    model, options_.model)};
            if (head.value("score", Json()) != Json(least_score))
                return Error{
                    fmt::format("{}: its boxes begin at another score than {}: name another file", path, least_score)};
            continue;
        }
        if (line.empty()) continue;
        auto entry = line.size() <= longest_line ? entry_of(line) : std::nullopt;
        if (!entry) {
            counters_.passed_over++;
            continue;
        }
        if (remember(entry->first, std::move(entry->second))) counters_.loaded++;
    }
    Status status;
    if (first && !writes) status = Error{path + ": it is empty"};
    if (writes) {
        std::string begin;
        if (!ends_whole) begin = "\n";
        if (first)
            begin += fmt::format("{{\"detections\":1,\"model\":\"{}\",\"score\":{}}}\n", options_.model, least_score);
        if (!begin.empty()) status = write_all(fd_.get(), begin.data(), begin.size(), path);
    }
    flock(fd_.get(), LOCK_UN);
    if (!writes) fd_.reset();
    return status;
}

bool Detections::remember(const PictureKey& key, std::vector<Box> boxes) {
    if (!known_.try_emplace(key, std::move(boxes)).second) return false;
    order_.push_back(key);
    while (known_.size() > options_.most) {
        known_.erase(order_.front());
        order_.pop_front();
        counters_.evicted++;
    }
    return true;
}

std::optional<std::vector<Box>> Detections::find(const PictureKey& key, bool counts) {
    std::lock_guard lock(mutex_);
    const auto at = known_.find(key);
    if (at == known_.end()) {
        counters_.misses += counts ? 1 : 0;
        return std::nullopt;
    }
    counters_.hits += counts ? 1 : 0;
    return at->second;
}

Status Detections::put(const PictureKey& key, std::vector<Box> boxes) {
    std::lock_guard lock(mutex_);
    const std::string line = fd_.valid() ? line_of(key, boxes) : "";
    if (!remember(key, std::move(boxes)) || line.empty()) return {};
    // In one write(), which O_APPEND makes one piece.
    Status written = write_all(fd_.get(), line.data(), line.size(), options_.file);
    if (!written) fd_.reset();
    return written;
}

size_t Detections::size() const {
    std::lock_guard lock(mutex_);
    return known_.size();
}

Detections::Counters Detections::counters() const {
    std::lock_guard lock(mutex_);
    return counters_;
}

Result<Looked> look_at(const AVFrame& frame, const PictureKey& key, Detector& detector, Detections& detections) {
    if (std::optional<std::vector<Box>> known = detections.find(key, false)) return Looked{std::move(*known), true, {}};
    Result<Image> image = to_image(frame);
    if (!image) return image.error();
    Result<std::vector<Box>> found = detector.detect(*image, Detections::least_score);
    if (!found) return found.error();
    Status kept = detections.put(key, *found);
    if (!kept) spdlog::error("{}: from now on boxes are kept in memory only", kept.error().message);
    return Looked{std::move(*found), false, std::move(kept)};
}

}  // namespace adapath
