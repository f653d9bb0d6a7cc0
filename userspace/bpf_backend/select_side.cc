// Loading, pinning, attaching and adopting the kernel side of the app select, and its table of cameras.
#include "userspace/bpf_backend/select_side.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "select_bpf.skel.h"
#include "userspace/bpf_backend/tc_hook.h"

namespace adapath {
namespace {

// What two daemons with select need to keep apart.
constexpr const char* kApart = "--pin-dir";

std::string reason(int err) { return std::strerror(err < 0 ? -err : err); }

// The fields of SelectSide and the names they are pinned under.
struct Pin {
    const char* name;
    UniqueFd SelectSide::* fd;
};
constexpr std::array<Pin, 13> kPins = {{
    {"control", &SelectSide::control_map},
    {"slots", &SelectSide::slots_map},
    {"stats", &SelectSide::stats_map},
    {"ring", &SelectSide::ring_map},
    {"nets", &SelectSide::nets_map},
    {"finish", &SelectSide::finish_map},
    {"cameras", &SelectSide::cameras_map},
    {"ports", &SelectSide::ports_map},
    {"market", &SelectSide::market_map},
    {"feedback", &SelectSide::feedback_map},
    {"links", &SelectSide::links_map},
    {"camera_ids", &SelectSide::ids_map},
    // Last: its pin says that all of the above are complete.
    {"program", &SelectSide::program},
}};

Status check_own_pins(const std::string& directory) {
    std::array<std::string_view, kPins.size()> names;
    std::ranges::transform(kPins, names.begin(), [](const Pin& pin) { return std::string_view(pin.name); });
    return check_pins(directory, names);
}

struct SkeletonDeleter {
    void operator()(select_bpf* skeleton) const { select_bpf::destroy(skeleton); }
};

// What a rendition is found by.
using PortKey = std::array<uint32_t, 5>;
PortKey key_of(const adp_address& source, uint32_t port) {
    return {source.word[0], source.word[1], source.word[2], source.word[3], port};
}
using Ports = std::map<PortKey, adp_select_port>;

Ports ports_of(const std::vector<SelectCamera>& cameras) {
    Ports ports;
    for (size_t i = 0; i < cameras.size(); ++i) {
        for (const uint32_t rendition : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
            adp_select_port entry = {};
            entry.source = *parse_camera_address(cameras[i].address);
            entry.port = rendition == ADP_SELECT_SUB ? cameras[i].sub_port : cameras[i].main_port;
            entry.camera = static_cast<uint32_t>(i);
            entry.rendition = static_cast<uint8_t>(rendition);
            entry.payload_type = cameras[i].payload_type;
            ports[key_of(entry.source, entry.port)] = entry;
        }
    }
    return ports;
}

bool same(const adp_select_port& a, const adp_select_port& b) {
    return a.camera == b.camera && a.rendition == b.rendition && a.payload_type == b.payload_type;
}

// The kernel's table of renditions (adp_select_port), changed while packets read it.
class PortTable {
public:
    explicit PortTable(const Mapping& mapping) : places_(mapping.as<adp_select_port>(), ADP_SELECT_PORTS) {}

    [[nodiscard]] Ports present() const {
        Ports ports;
        for (const adp_select_port& place : places_) {
            if (place.port != 0) ports[key_of(place.source, place.port)] = place;
        }
        return ports;
    }
    // What is free afterwards may be read until a grace period is over.
    void remove(const PortKey& key) {
        for (adp_select_port& place : places_) {
            if (place.port != 0 && key_of(place.source, place.port) == key)
                __atomic_store_n(&place.port, 0, __ATOMIC_RELEASE);
        }
    }
    bool add(const adp_select_port& entry) {
        const uint32_t home = adp_select_home(&entry.source, entry.port);
        for (uint16_t distance = 0; distance < ADP_SELECT_PROBES; ++distance) {
            adp_select_port& place = places_[(home + distance) % ADP_SELECT_PORTS];
            if (place.port != 0) continue;
            place.source = entry.source;
            place.camera = entry.camera;
            place.rendition = entry.rendition;
            place.payload_type = entry.payload_type;
            if (places_[home].reach < distance) __atomic_store_n(&places_[home].reach, distance, __ATOMIC_RELEASE);
            __atomic_store_n(&place.port, entry.port, __ATOMIC_RELEASE);
            return true;
        }
        return false;
    }

private:
    std::span<adp_select_port> places_;
};

Result<uint64_t> next_camera_id(const SelectSide& side) {
    const uint32_t zero = 0;
    uint64_t id = 0;
    if (bpf_map_lookup_elem(side.ids_map.get(), &zero, &id) != 0) return Error{"the cameras' numbers can't be read"};
    ++id;
    if (bpf_map_update_elem(side.ids_map.get(), &zero, &id, BPF_ANY) != 0)
        return Error{fmt::format("numbering a camera: {}", reason(errno))};
    return id;
}

// Packets find a camera by its ports. So where anything of a camera changes, all of its ports go before its place is
// made new, and come after: a packet of the rendition that stays would otherwise be in the middle of a decision.
Status set_cameras(SelectSide& side, const std::vector<SelectCamera>& cameras) {
    PortTable table(side.ports_mapping);
    const Ports wanted = ports_of(cameras);
    const Ports present = table.present();
    std::set<uint32_t> changed;
    for (const auto& [some, others] : {std::pair(&present, &wanted), std::pair(&wanted, &present)}) {
        for (const auto& [key, entry] : *some) {
            const auto found = others->find(key);
            if (found == others->end() || !same(found->second, entry)) changed.insert(entry.camera);
        }
    }
    bool removed = false;
    for (const auto& [key, entry] : present) {
        if (!changed.contains(entry.camera)) continue;
        table.remove(key);
        removed = true;
    }
    // A packet that found the old camera just before may still be at it.
    if (removed) {
        if (Status status = side.wait_for_readers(); !status) return status;
    }
    for (const uint32_t camera : changed) {
        adp_select_entry state = {};
        if (camera < cameras.size()) {
            Result<uint64_t> id = next_camera_id(side);
            if (!id) return id.error();
            state.camera.id = *id;
        }
        const adp_select_feedback nothing = {};
        if (bpf_map_update_elem(side.cameras_map.get(), &camera, &state, BPF_F_LOCK) != 0 ||
            bpf_map_update_elem(side.feedback_map.get(), &camera, &nothing, BPF_ANY) != 0)
            return Error{fmt::format("setting camera {}: {}", camera, reason(errno))};
    }
    for (const auto& [key, entry] : wanted) {
        if (changed.contains(entry.camera) && !table.add(entry))
            return Error{
                fmt::format("camera '{}': no room near its place in the kernel's table of {}; give port {} another "
                            "number",
                            cameras[entry.camera].name, ADP_SELECT_PORTS, entry.port)};
    }
    return {};
}

std::vector<SelectLink> links_of(int links_map) {
    std::vector<SelectLink> links(kSelectInterfaces);
    for (uint32_t i = 0; i < links.size(); ++i) {
        if (bpf_map_lookup_elem(links_map, &i, &links[i]) != 0) links[i] = {};
    }
    return links;
}

Status write_link(const SelectSide& side, uint32_t place, const SelectLink& link) {
    if (bpf_map_update_elem(side.links_map.get(), &place, &link, BPF_ANY) != 0)
        return Error{fmt::format("noting an interface: {}", reason(errno))};
    return {};
}

Result<std::set<uint32_t>> find_interfaces(const std::vector<std::string>& names) {
    std::set<uint32_t> found;
    for (const std::string& name : names) {
        const uint32_t ifindex = if_nametoindex(name.c_str());
        if (ifindex == 0) return Error{fmt::format("interface '{}': {}", name, reason(errno))};
        found.insert(ifindex);
    }
    if (found.size() > kSelectInterfaces)
        return Error{fmt::format("{} interfaces: at most {}", found.size(), kSelectInterfaces)};
    return found;
}

Status set_interfaces(SelectSide& side, std::set<uint32_t> wanted) {
    std::vector<SelectLink> links = links_of(side.links_map.get());
    for (uint32_t i = 0; i < links.size(); ++i) {
        if (links[i].ifindex == 0) continue;
        if (wanted.contains(links[i].ifindex) && is_attached_to_ingress(links[i].ifindex, side.program.get())) {
            wanted.erase(links[i].ifindex);
            continue;
        }
        if (Status status = detach_from_ingress(links[i].ifindex, side.program.get(), links[i].made_qdisc != 0);
            !status)
            return status;
        links[i] = {};
        if (Status status = write_link(side, i, links[i]); !status) return status;
    }
    for (const uint32_t ifindex : wanted) {
        const auto free = std::ranges::find(links, 0U, &SelectLink::ifindex);
        if (free == links.end()) return Error{fmt::format("more than {} interfaces", kSelectInterfaces)};
        const auto place = static_cast<uint32_t>(free - links.begin());
        // Noted first: a daemon that is killed in between leaves nothing attached that --remove would not find.
        *free = {ifindex, 0};
        if (Status status = write_link(side, place, *free); !status) return status;
        Result<TcAttachment> attached = attach_to_ingress(ifindex, side.program.get());
        if (!attached) {
            (void)write_link(side, place, {});
            return attached.error();
        }
        free->made_qdisc = attached->made_qdisc ? 1 : 0;
        if (Status status = write_link(side, place, *free); !status) return status;
    }
    return {};
}

Status load_fresh(SelectSide& side, const SelectBackendOptions& options) {
    (void)take_libbpf_log();
    std::unique_ptr<select_bpf, SkeletonDeleter> skeleton(select_bpf::open());
    if (!skeleton) return Error{fmt::format("opening the select program: {}", reason(errno))};
    bpf_map__set_max_entries(skeleton->maps.adp_select_ring, options.ring_bytes);
    if (int err = select_bpf::load(skeleton.get()); err != 0)
        return Error{fmt::format("loading the select program: {}\n{}", reason(err), take_libbpf_log())};

    const std::array<std::pair<UniqueFd SelectSide::*, int>, 11> fds = {{
        {&SelectSide::control_map, bpf_map__fd(skeleton->maps.adp_select_control_map)},
        {&SelectSide::slots_map, bpf_map__fd(skeleton->maps.adp_select_slots)},
        {&SelectSide::stats_map, bpf_map__fd(skeleton->maps.adp_select_stats)},
        {&SelectSide::ring_map, bpf_map__fd(skeleton->maps.adp_select_ring)},
        {&SelectSide::nets_map, bpf_map__fd(skeleton->maps.adp_select_nets)},
        {&SelectSide::finish_map, bpf_map__fd(skeleton->maps.adp_select_finish)},
        {&SelectSide::cameras_map, bpf_map__fd(skeleton->maps.adp_select_cameras)},
        {&SelectSide::ports_map, bpf_map__fd(skeleton->maps.adp_select_ports)},
        {&SelectSide::market_map, bpf_map__fd(skeleton->maps.adp_select_market_map)},
        {&SelectSide::feedback_map, bpf_map__fd(skeleton->maps.adp_select_feedback_map)},
        {&SelectSide::program, bpf_program__fd(skeleton->progs.adp_select_ingress)},
    }};
    for (auto [member, fd] : fds) {
        side.*member = UniqueFd(dup(fd));
        if (!(side.*member).valid()) return Error{fmt::format("keeping a descriptor: {}", reason(errno))};
    }
    side.links_map = UniqueFd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "adp_sel_links", sizeof(uint32_t), sizeof(SelectLink),
                                             kSelectInterfaces, nullptr));
    side.ids_map =
        UniqueFd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "adp_sel_ids", sizeof(uint32_t), sizeof(uint64_t), 1, nullptr));
    if (!side.links_map.valid() || !side.ids_map.valid())
        return Error{fmt::format("creating a map: {}", reason(errno))};
    if (Status status = map_slots(side); !status) return status;
    begin_control(side, ADP_SELECT_SCHEMA, options.wakeup_bytes, false);
    const uint32_t zero = 0;
    const int apply = bpf_program__fd(skeleton->progs.adp_select_apply);
    if (bpf_map_update_elem(side.finish_map.get(), &zero, &apply, BPF_ANY) != 0)
        return Error{fmt::format("joining the select programs: {}", reason(errno))};
    for (const Pin& pin : kPins) {
        const std::string path = pin_path(side.pin_directory, pin.name);
        if (bpf_obj_pin((side.*(pin.fd)).get(), path.c_str()) != 0) {
            const int err = errno;
            for (const Pin& made : kPins) unlink(pin_path(side.pin_directory, made.name).c_str());
            return Error{fmt::format("pinning {}: {}", path, reason(err))};
        }
    }
    return {};
}

Status adopt(SelectSide& side, const SelectBackendOptions& options) {
    for (const Pin& pin : kPins) {
        side.*(pin.fd) = UniqueFd(bpf_obj_get(pin_path(side.pin_directory, pin.name).c_str()));
        if (!(side.*(pin.fd)).valid())
            return Error{fmt::format("adopting {}/{}: {}; 'adapathd --remove' clears the directory for a fresh start",
                                     side.pin_directory, pin.name, reason(errno))};
    }
    if (Status status = map_slots(side); !status) return status;
    if (Status status = check_control(side, ADP_SELECT_SCHEMA,
                                      "'adapathd --remove' detaches it (all packets pass), then start again");
        !status)
        return status;
    side.control()->wakeup_bytes = options.wakeup_bytes;
    compare_ring(side, options.ring_bytes);
    side.adopted = true;
    return {};
}

Status remove_locked(const std::string& pin_directory) {
    const UniqueFd program(bpf_obj_get(pin_path(pin_directory, "program").c_str()));
    const UniqueFd links(bpf_obj_get(pin_path(pin_directory, "links").c_str()));
    if (program.valid() && links.valid()) {
        for (const SelectLink& link : links_of(links.get())) {
            if (link.ifindex == 0) continue;
            if (Status status = detach_from_ingress(link.ifindex, program.get(), link.made_qdisc != 0); !status)
                return status;
        }
    }
    for (const Pin& pin : kPins) unlink(pin_path(pin_directory, pin.name).c_str());
    if (rmdir(pin_directory.c_str()) != 0) return Error{fmt::format("removing {}: {}", pin_directory, reason(errno))};
    return {};
}

}  // namespace

NetworkProgramKind SelectSide::network_program() const {
    return {"adp_select_net",
            {{"adp_select_cameras", cameras_map.get()},
             {"adp_select_slots", slots_map.get()},
             {"adp_select_finish", finish_map.get()}}};
}

Result<std::unique_ptr<SelectSide>> open_select_side(const SelectBackendOptions& options) {
    if (Status status = check_ring_bytes(options.ring_bytes); !status) return status.error();
    if (Status status = check_select_cameras(options.cameras); !status) return status.error();
    // Before anything of a kernel side that is adopted changes: a name is what is wrong most often.
    Result<std::set<uint32_t>> interfaces = find_interfaces(options.interfaces);
    if (!interfaces) return interfaces.error();
    keep_libbpf_log();
    auto side = std::make_unique<SelectSide>();
    side->pin_directory = options.pin_directory;
    Result<UniqueFd> lock = lock_pin_directory(options.pin_directory, kApart);
    if (!lock) return lock.error();
    side->lock = std::move(*lock);
    if (Status status = check_own_pins(options.pin_directory); !status) return status.error();

    // The pin of `program` is made last; without it the others are what a killed daemon left half done.
    const bool fresh = access(pin_path(options.pin_directory, "program").c_str(), F_OK) != 0;
    if (fresh) {
        for (const Pin& pin : kPins) unlink(pin_path(options.pin_directory, pin.name).c_str());
    }
    if (Status status = fresh ? load_fresh(*side, options) : adopt(*side, options); !status) return status.error();
    if (Status status = make_grace_maps(*side); !status) return status.error();
    Result<Mapping> ports = map_array(side->ports_map, sizeof(adp_select_port) * ADP_SELECT_PORTS, "cameras' ports");
    if (!ports) return ports.error();
    side->ports_mapping = std::move(*ports);
    Status configured = set_cameras(*side, options.cameras);
    if (configured) configured = set_interfaces(*side, std::move(*interfaces));
    if (!configured) {
        // Nothing that was not there before is left by a start that fails.
        if (fresh) (void)remove_locked(options.pin_directory);
        return configured.error();
    }
    return side;
}

Status remove_select_backend(const std::string& pin_directory) {
    if (access(pin_directory.c_str(), F_OK) != 0)
        return Error{fmt::format("pin directory {}: {}: nothing to remove", pin_directory, reason(errno))};
    keep_libbpf_log();
    Result<UniqueFd> lock = lock_existing_pin_directory(pin_directory, kApart);
    if (!lock) return lock.error();
    if (Status status = check_own_pins(pin_directory); !status) return status;
    return remove_locked(pin_directory);
}

}  // namespace adapath
