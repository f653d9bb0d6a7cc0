// See program_cache.h.
#include "userspace/qp/program_cache.h"

#include <optional>

namespace adapath {
namespace {

constexpr size_t kPrograms = 16;
constexpr uint32_t kRandomPictures = 4;
constexpr uint64_t kSeed = 0x7170;

}  // namespace

struct ProgramCache::Entry {
    ImageQuantModel model;
    std::mutex mutex;  // the two below, until the thread is done
    bool done = false;
    std::string failure;
#ifdef ADAPATH_HAVE_CODEGEN
    std::optional<ImageProgram> program;
#endif
    std::jthread thread;  // last: it ends before the rest goes

    void compile();
};

ProgramCache::ProgramCache() = default;
ProgramCache::~ProgramCache() = default;

#ifdef ADAPATH_HAVE_CODEGEN

bool ProgramCache::has_compiler() { return true; }

void ProgramCache::Entry::compile() {
    Result<ImageProgram> loaded = ImageProgram::load(model.network, true);
    Status sound = loaded ? Status() : Status(loaded.error());
    if (loaded) {
        const std::vector<uint8_t> params = pack(model);
        sound = verify(
            model,
            [&](const ImageCodes& picture, std::vector<int32_t>& out) { return loaded->run(params, picture, out); }, {},
            kRandomPictures, kSeed);
    }
    std::lock_guard lock(mutex);
    done = true;
    if (sound) {
        program = std::move(*loaded);
    } else {
        failure = sound.error().message;
    }
}

#else

bool ProgramCache::has_compiler() { return false; }

void ProgramCache::Entry::compile() {
    std::lock_guard lock(mutex);
    done = true;
    failure = "this build has no compiler";
}

#endif

ImageRun ProgramCache::find(const ImageQuantModel& model) {
    std::lock_guard lock(mutex_);
    for (const std::shared_ptr<Entry>& entry : entries_) {
        if (!(entry->model.network == model.network)) {
            continue;
        }
        std::lock_guard entry_lock(entry->mutex);
#ifdef ADAPATH_HAVE_CODEGEN
        if (entry->program) {
            auto mine = std::make_shared<ImageProgram>(entry->program->another());
            return [mine](std::span<const uint8_t> params, const ImageCodes& picture, std::vector<int32_t>& out) {
                return mine->run(params, picture, out);
            };
        }
#endif
        return {};
    }
    if (entries_.size() >= kPrograms) {
        entries_.erase(entries_.begin());
    }
    auto entry = std::make_shared<Entry>();
    entry->model = model;
    entry->thread = std::jthread([raw = entry.get()] { raw->compile(); });
    entries_.push_back(std::move(entry));
    return {};
}

std::string ProgramCache::failure(const ImageNetwork& network) const {
    std::lock_guard lock(mutex_);
    for (const std::shared_ptr<Entry>& entry : entries_) {
        if (entry->model.network == network) {
            std::lock_guard entry_lock(entry->mutex);
            return entry->failure;
        }
    }
    return {};
}

}  // namespace adapath
