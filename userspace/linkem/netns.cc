// See netns.h. Mounts as iproute2 lays them out; settings over rtnetlink with libnl.
#include "userspace/linkem/netns.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

extern char** environ;

namespace adapath {

namespace {

constexpr const char* run_dir = "/run/netns";

Error system_error(const std::string& what, int code = errno) { return Error{what + ": " + std::strerror(code)}; }

std::string path_of(const std::string& name) { return std::string(run_dir) + "/" + name; }

Status check_name(const std::string& name) {
    if (name.empty() || name.size() > 200 || name.find('/') != std::string::npos || name == "." || name == "..") {
        return Error{"network namespace '" + name + "': the name must be a plain file name"};
    }
    return {};
}

// /run/netns must be a shared mount, or a namespace mounted here would be invisible to (and undeletable from) processes
// that have their own mount namespace. The same steps as iproute2's, so that either may come first.
Status prepare_run_dir() {
    if (mkdir(run_dir, 0755) != 0 && errno != EEXIST) {
        return system_error(std::string("can't make ") + run_dir + " (are you root?)");
    }
    if (mount("", run_dir, "none", MS_SHARED | MS_REC, nullptr) == 0) {
        return {};
    }
    if (errno != EINVAL) {
        return system_error(std::string("can't share the mount ") + run_dir + " (are you root?)");
    }
    if (mount(run_dir, run_dir, "none", MS_BIND | MS_REC, nullptr) != 0) {
        return system_error(std::string("can't bind-mount ") + run_dir);
    }
    if (mount("", run_dir, "none", MS_SHARED | MS_REC, nullptr) != 0) {
        return system_error(std::string("can't share the mount ") + run_dir);
    }
    return {};
}

// In a thread of its own, so that the caller's namespace can't get lost on any error path.
Status in_thread(const std::function<Status()>& work) {
    Status status;
    std::thread([&] { status = work(); }).join();
    return status;
}

template <typename T, void (*release)(T*)>
struct Releaser {
    void operator()(T* object) const { release(object); }
};
using NlSocket = std::unique_ptr<nl_sock, Releaser<nl_sock, nl_socket_free>>;
using NlLink = std::unique_ptr<rtnl_link, Releaser<rtnl_link, rtnl_link_put>>;
using NlAddress = std::unique_ptr<nl_addr, Releaser<nl_addr, nl_addr_put>>;
using NlDeviceAddress = std::unique_ptr<rtnl_addr, Releaser<rtnl_addr, rtnl_addr_put>>;
using NlRoute = std::unique_ptr<rtnl_route, Releaser<rtnl_route, rtnl_route_put>>;

Error nl_error(const std::string& what, int code) { return Error{what + ": " + nl_geterror(code)}; }

Result<NlSocket> connect_route() {
    NlSocket socket(nl_socket_alloc());
    if (const int code = nl_connect(socket.get(), NETLINK_ROUTE); code < 0) {
        return nl_error("can't open rtnetlink", code);
    }
    return socket;
}

Result<NlLink> find_link(nl_sock* socket, const std::string& device) {
    rtnl_link* link = nullptr;
    if (const int code = rtnl_link_get_kernel(socket, 0, device.c_str(), &link); code < 0) {
        return nl_error("no network device " + device + " in this namespace", code);
    }
    return NlLink(link);
}

Result<NlAddress> parse_address(const std::string& text, int family) {
    nl_addr* address = nullptr;
    if (const int code = nl_addr_parse(text.c_str(), family, &address); code < 0) {
        return nl_error("'" + text + "' is no address like 10.77.0.1/30", code);
    }
    return NlAddress(address);
}

}  // namespace

Result<Namespace> Namespace::create(const std::string& name) {
    if (Status status = check_name(name); !status) {
        return status.error();
    }
    if (Status status = prepare_run_dir(); !status) {
        return status.error();
    }
    const std::string path = path_of(name);
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0));
    if (!file.valid()) {
        if (errno == EEXIST) {
            return Error{"network namespace " + name + " exists already (" + path +
                         "); choose another name or `ip netns del " + name + "`"};
        }
        return system_error("can't make " + path + " (are you root?)");
    }
    file.reset();
    const Status status = in_thread([&]() -> Status {
        if (unshare(CLONE_NEWNET) != 0) {
            return system_error("can't make a network namespace (are you root?)");
        }
        if (mount("/proc/thread-self/ns/net", path.c_str(), "none", MS_BIND, nullptr) != 0) {
            return system_error("can't mount the network namespace at " + path);
        }
        return set_link_up("lo");
    });
    UniqueFd fd(status ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : -1);
    if (!fd.valid()) {
        Error error = status ? system_error("can't open " + path) : status.error();
        umount2(path.c_str(), MNT_DETACH);
        unlink(path.c_str());
        return error;
    }
    return Namespace(name, std::move(fd), true);
}

Result<Namespace> Namespace::open(const std::string& name) {
    if (Status status = check_name(name); !status) {
        return status.error();
    }
    UniqueFd fd(::open(path_of(name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) {
        return system_error("can't open network namespace " + name + " (" + path_of(name) + ")");
    }
    return Namespace(name, std::move(fd), false);
}

Result<Namespace> Namespace::open_or_create(const std::string& name) {
    if (access(path_of(name).c_str(), F_OK) == 0) {
        return open(name);
    }
    return create(name);
}

Result<Namespace> Namespace::current() {
    UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) {
        return system_error("can't open /proc/thread-self/ns/net");
    }
    return Namespace("", std::move(fd), false);
}

std::string Namespace::unique_name(const std::string& prefix) {
    std::random_device random;
    char text[16];
    std::snprintf(text, sizeof text, "%06x", random() & 0xffffff);
    return prefix + "-" + std::to_string(getpid()) + "-" + text;
}

Namespace::Namespace(Namespace&& other) noexcept
    : name_(std::move(other.name_)), fd_(std::move(other.fd_)), owned_(std::exchange(other.owned_, false)) {}

Namespace& Namespace::operator=(Namespace&& other) noexcept {
    if (this != &other) {
        remove();
        name_ = std::move(other.name_);
        fd_ = std::move(other.fd_);
        owned_ = std::exchange(other.owned_, false);
    }
    return *this;
}

Namespace::~Namespace() { remove(); }

void Namespace::remove() noexcept {
    if (std::exchange(owned_, false)) {
        umount2(path_of(name_).c_str(), MNT_DETACH);
        unlink(path_of(name_).c_str());
    }
}

Status Namespace::run(const std::function<Status()>& work) const {
    return in_thread([&]() -> Status {
        if (setns(fd_.get(), CLONE_NEWNET) != 0) {
            return system_error("can't enter network namespace " + name_ + " (are you root?)");
        }
        return work();
    });
}

Result<pid_t> Namespace::spawn(const std::vector<std::string>& argv, int output_fd) const {
    if (argv.empty()) {
        return Error{"can't start a program without a name"};
    }
    std::vector<char*> arguments;
    for (const std::string& argument : argv) {
        arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    pid_t pid = -1;
    const Status status = run([&]() -> Status {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        if (output_fd >= 0) {
            posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
            posix_spawn_file_actions_adddup2(&actions, output_fd, STDERR_FILENO);
        }
        // The caller may have blocked SIGINT and SIGTERM for itself; its children must still end on them.
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        sigset_t none;
        sigemptyset(&none);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        const int code = posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return code == 0 ? Status{} : Status(system_error("can't start " + argv[0], code));
    });
    if (!status) {
        return status.error();
    }
    return pid;
}

Status set_link_up(const std::string& device, const LinkSettings& settings) {
    auto socket = connect_route();
    if (!socket) {
        return socket.error();
    }
    auto link = find_link(socket->get(), device);
    if (!link) {
        return link.error();
    }
    NlLink change(rtnl_link_alloc());
    rtnl_link_set_flags(change.get(), IFF_UP);
    if (settings.mtu != 0) {
        rtnl_link_set_mtu(change.get(), settings.mtu);
    }
    if (settings.queue_packets != 0) {
        rtnl_link_set_txqlen(change.get(), settings.queue_packets);
    }
    if (const int code = rtnl_link_change(socket->get(), link->get(), change.get(), 0); code < 0) {
        return nl_error("can't set up network device " + device, code);
    }
    return {};
}

Status add_address(const std::string& device, const std::string& cidr) {
    auto socket = connect_route();
    if (!socket) {
        return socket.error();
    }
    auto link = find_link(socket->get(), device);
    if (!link) {
        return link.error();
    }
    auto local = parse_address(cidr, AF_UNSPEC);
    if (!local) {
        return local.error();
    }
    NlDeviceAddress address(rtnl_addr_alloc());
    rtnl_addr_set_ifindex(address.get(), rtnl_link_get_ifindex(link->get()));
    rtnl_addr_set_local(address.get(), local->get());
    if (const int code = rtnl_addr_add(socket->get(), address.get(), 0); code < 0) {
        return nl_error("can't give " + cidr + " to network device " + device, code);
    }
    return {};
}

Status add_route(const std::string& destination, const std::string& device, const std::string& gateway) {
    auto socket = connect_route();
    if (!socket) {
        return socket.error();
    }
    auto link = find_link(socket->get(), device);
    if (!link) {
        return link.error();
    }
    auto to = parse_address(destination == "default" ? "0.0.0.0/0" : destination, AF_UNSPEC);
    if (!to) {
        return to.error();
    }
    NlRoute route(rtnl_route_alloc());
    rtnl_route_set_family(route.get(), static_cast<uint8_t>(nl_addr_get_family(to->get())));
    rtnl_route_set_dst(route.get(), to->get());
    rtnl_nexthop* hop = rtnl_route_nh_alloc();
    rtnl_route_nh_set_ifindex(hop, rtnl_link_get_ifindex(link->get()));
    rtnl_route_add_nexthop(route.get(), hop);  // owns hop from here on
    rtnl_route_set_scope(route.get(), gateway.empty() ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE);
    if (!gateway.empty()) {
        auto via = parse_address(gateway, AF_UNSPEC);
        if (!via) {
            return via.error();
        }
        rtnl_route_nh_set_gateway(hop, via->get());
    }
    if (const int code = rtnl_route_add(socket->get(), route.get(), NLM_F_CREATE | NLM_F_REPLACE); code < 0) {
        return nl_error("can't add the route " + destination + " over " + device, code);
    }
    return {};
}

Status create_veth(const std::string& name, const Namespace& peer, const std::string& peer_name) {
    auto socket = connect_route();
    if (!socket) {
        return socket.error();
    }
    NlLink link(rtnl_link_veth_alloc());
    rtnl_link_set_name(link.get(), name.c_str());
    NlLink other(rtnl_link_veth_get_peer(link.get()));
    rtnl_link_set_name(other.get(), peer_name.c_str());
    rtnl_link_set_ns_fd(other.get(), peer.fd());
    if (const int code = rtnl_link_add(socket->get(), link.get(), NLM_F_CREATE | NLM_F_EXCL); code < 0) {
        return nl_error("can't make the veth pair " + name + ", " + peer_name, code);
    }
    return {};
}

Status delete_link(const std::string& device) {
    auto socket = connect_route();
    if (!socket) {
        return socket.error();
    }
    auto link = find_link(socket->get(), device);
    if (!link) {
        return link.error();
    }
    if (const int code = rtnl_link_delete(socket->get(), link->get()); code < 0) {
        return nl_error("can't delete network device " + device, code);
    }
    return {};
}

Status set_sysctl(const std::string& path, const std::string& value) {
    const std::string file = "/proc/sys/" + path;
    UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd.valid() || write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
        return system_error("can't set " + file + " to " + value);
    }
    return {};
}

Result<UniqueFd> open_tun(const std::string& device) {
    if (device.empty() || device.size() >= IFNAMSIZ) {
        return Error{"network device '" + device + "': the name must have 1 to 15 characters"};
    }
    UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) {
        return system_error("can't open /dev/net/tun (is the tun module there, are you root?)");
    }
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL;
    std::memcpy(request.ifr_name, device.data(), device.size());
    if (ioctl(fd.get(), TUNSETIFF, &request) != 0) {
        return system_error("can't make the TUN device " + device);
    }
    return fd;
}

}  // namespace adapath
