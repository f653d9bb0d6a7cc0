// See programs.h.
#include "bench/scale/programs.h"

#include <adapath/cc.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "scale_cubic.skel.h"
#include "scale_never_due.skel.h"
#include "userspace/bpf_backend/cc_side.h"
#include "userspace/common/file.h"

namespace adapath::scale {
namespace {

Error failed(const std::string& what) { return Error{errno_text(what)}; }

Result<bpf_prog_info> info_of(int fd) {
    bpf_prog_info info = {};
    uint32_t bytes = sizeof info;
    if (bpf_prog_get_info_by_fd(fd, &info, &bytes) != 0) {
        return failed("reading about a BPF program");
    }
    return info;
}

uint32_t id_of_map(int fd) {
    bpf_map_info info = {};
    uint32_t bytes = sizeof info;
    return bpf_map_get_info_by_fd(fd, &info, &bytes) == 0 ? info.id : 0;
}

bool uses_map(int program, uint32_t map_id) {
    std::array<uint32_t, 64> maps = {};
    bpf_prog_info info = {};
    info.nr_map_ids = maps.size();
    info.map_ids = reinterpret_cast<uint64_t>(maps.data());
    uint32_t bytes = sizeof info;
    if (bpf_prog_get_info_by_fd(program, &info, &bytes) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < info.nr_map_ids && i < maps.size(); i++) {
        if (maps[i] == map_id) {
            return true;
        }
    }
    return false;
}

// Every program that is loaded now, as long as `visit` returns true.
void for_each_program(const std::function<bool(uint32_t id, int fd)>& visit) {
    uint32_t id = 0;
    while (bpf_prog_get_next_id(id, &id) == 0) {
        const UniqueFd fd(bpf_prog_get_fd_by_id(id));
        if (fd.valid() && !visit(id, fd.get())) {
            return;
        }
    }
}

std::vector<uint32_t> ids_of_object(const bpf_object* object) {
    std::vector<uint32_t> ids;
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object) {
        if (Result<bpf_prog_info> info = info_of(bpf_program__fd(program))) {
            ids.push_back(info->id);
        }
    }
    return ids;
}

// What both of our own congestion controls have in common.
template <typename Skeleton>
class Loaded : public CongestionControl {
public:
    ~Loaded() override {
        if (registered_ != nullptr) {
            bpf_link__destroy(registered_);
        }
        if (skeleton_ != nullptr) {
            Skeleton::destroy(skeleton_);
        }
    }

protected:
    template <size_t Size>
    void set_name(const std::string& name, char (&where)[Size]) {
        name_ = name;
        std::memset(where, 0, Size);
        std::memcpy(where, name.data(), std::min(name.size(), Size - 1));
    }
    Status attach(bpf_map* ops) {
        if (int err = Skeleton::load(skeleton_); err != 0) {
            return Error{fmt::format("loading {}: {}\n{}", name_, std::strerror(-err), take_libbpf_log())};
        }
        registered_ = bpf_map__attach_struct_ops(ops);
        if (registered_ == nullptr) {
            return failed("registering " + name_);
        }
        Result<Programs> programs = Programs::of_ids(ids_of_object(skeleton_->obj));
        if (!programs) {
            return programs.error();
        }
        programs_ = std::move(*programs);
        return {};
    }

    Skeleton* skeleton_ = nullptr;
    bpf_link* registered_ = nullptr;
};

class Cubic final : public Loaded<scale_cubic> {
public:
    Status open(const std::string& name, uint32_t window_clamp) {
        skeleton_ = scale_cubic::open();
        if (skeleton_ == nullptr) {
            return failed("opening the CUBIC program");
        }
        skeleton_->rodata->window_clamp = window_clamp;
        // The skeleton calls a char array "unsupported" because it has no setter; the bytes are the live ones.
        set_name(name, skeleton_->struct_ops.cubic_ops->__unsupported_7);
        return attach(skeleton_->maps.cubic_ops);
    }
};

class NeverDue final : public Loaded<scale_never_due> {
public:
    Status open(const std::string& name) {
        if (Status status = register_network_section(); !status) {
            return status;
        }
        Result<uint32_t> arguments = cong_control_arguments();
        if (!arguments) {
            return arguments.error();
        }
        skeleton_ = scale_never_due::open();
        if (skeleton_ == nullptr) {
            return failed("opening the cc program");
        }
        skeleton_->rodata->cong_control_has_ack = *arguments == 4;
        set_name(name, skeleton_->struct_ops.adp_cc_ops->__unsupported_5);
        return attach(skeleton_->maps.adp_cc_ops);
    }
    [[nodiscard]] uint64_t samples() const override {
        std::vector<adp_stats> cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
        const uint32_t zero = 0;
        uint64_t sum = 0;
        if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.adp_cc_stats), &zero, cpus.data()) == 0) {
            for (const adp_stats& cpu : cpus) {
                sum += cpu.samples + cpu.samples_lost;
            }
        }
        return sum;
    }
};

}  // namespace

RunTimes operator-(RunTimes later, const RunTimes& earlier) {
    for (auto& [name, time] : later) {
        if (const auto before = earlier.find(name); before != earlier.end()) {
            time.ns -= before->second.ns;
            time.runs -= before->second.runs;
        }
    }
    return later;
}

RunTimes& operator+=(RunTimes& sum, const RunTimes& more) {
    for (const auto& [name, time] : more) {
        sum[name].ns += time.ns;
        sum[name].runs += time.runs;
    }
    return sum;
}

RunTime total(const RunTimes& times) {
    RunTime sum;
    for (const auto& [name, time] : times) {
        sum.ns += time.ns;
        sum.runs += time.runs;
    }
    return sum;
}

Result<UniqueFd> enable_run_times() {
    UniqueFd fd(bpf_enable_stats(BPF_STATS_RUN_TIME));
    if (!fd.valid()) {
        return failed("enabling BPF run times (needs Linux 5.8 and root)");
    }
    return fd;
}

Result<Programs> Programs::of_ids(const std::vector<uint32_t>& ids) {
    Programs programs;
    for (const uint32_t id : ids) {
        UniqueFd fd(bpf_prog_get_fd_by_id(id));
        if (!fd.valid()) {
            return failed("opening a BPF program");
        }
        Result<bpf_prog_info> info = info_of(fd.get());
        if (!info) {
            return info.error();
        }
        programs.programs_.emplace_back(info->name, std::move(fd));
    }
    return programs;
}

Result<Programs> Programs::of_daemon(const std::string& pins) {
    const UniqueFd flows(bpf_obj_get((pins + "/flows").c_str()));
    if (!flows.valid()) {
        return failed(pins + "/flows");
    }
    // All programs of one object share its BTF; the one that is run per ACK is known by its name and its map.
    const uint32_t map = id_of_map(flows.get());
    uint32_t btf = 0;
    for_each_program([&](uint32_t, int fd) {
        Result<bpf_prog_info> info = info_of(fd);
        if (info && std::string_view(info->name) == "adp_cc_control" && uses_map(fd, map)) {
            btf = info->btf_id;
        }
        return btf == 0;
    });
    if (btf == 0) {
        return Error{fmt::format("{}: its program adp_cc_control is not loaded", pins)};
    }
    std::vector<uint32_t> ids;
    for_each_program([&](uint32_t id, int fd) {
        if (Result<bpf_prog_info> info = info_of(fd); info && info->btf_id == btf) {
            ids.push_back(id);
        }
        return true;
    });
    return of_ids(ids);
}

RunTimes Programs::read() const {
    RunTimes times;
    for (const auto& [name, fd] : programs_) {
        if (Result<bpf_prog_info> info = info_of(fd.get())) {
            times[name] = {info->run_time_ns, info->run_cnt};
        }
    }
    return times;
}

Result<std::unique_ptr<CongestionControl>> CongestionControl::cubic(const std::string& name, uint32_t window_clamp) {
    auto made = std::make_unique<Cubic>();
    if (Status status = made->open(name, window_clamp); !status) {
        return status.error();
    }
    return std::unique_ptr<CongestionControl>(std::move(made));
}

Result<std::unique_ptr<CongestionControl>> CongestionControl::never_due(const std::string& name) {
    auto made = std::make_unique<NeverDue>();
    if (Status status = made->open(name); !status) {
        return status.error();
    }
    return std::unique_ptr<CongestionControl>(std::move(made));
}

std::vector<MapCost> map_costs(const std::string& pins) {
    std::vector<MapCost> costs;
    for (const auto& entry : std::filesystem::directory_iterator(pins)) {
        const UniqueFd fd(bpf_obj_get(entry.path().c_str()));
        bpf_map_info info = {};
        uint32_t bytes = sizeof info;
        if (!fd.valid() || bpf_map_get_info_by_fd(fd.get(), &info, &bytes) != 0) {
            continue;
        }
        MapCost cost{entry.path().filename(), 0, info.value_size, info.max_entries};
        std::ifstream fdinfo(fmt::format("/proc/self/fdinfo/{}", fd.get()));
        for (std::string key; fdinfo >> key;) {
            if (key == "memlock:") {
                fdinfo >> cost.memlock_bytes;
            }
        }
        costs.push_back(cost);
    }
    return costs;
}

std::map<std::string, std::pair<uint64_t, uint64_t>> slab_objects() {
    std::map<std::string, std::pair<uint64_t, uint64_t>> objects;
    std::ifstream file("/proc/slabinfo");
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string name;
        uint64_t active = 0, all = 0, bytes = 0;
        if (words >> name >> active >> all >> bytes) {
            objects[name] = {active, bytes};
        }
    }
    return objects;
}

}  // namespace adapath::scale
