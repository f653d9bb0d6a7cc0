// Named network namespaces as `ip netns` makes them (a mount under /run/netns, so that `ip netns exec` finds them), and
// the few settings that a test network needs: devices, addresses, routes, sysctls. Needs CAP_SYS_ADMIN and
// CAP_NET_ADMIN.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

class Namespace {
public:
    // Makes a namespace with its loopback device up; it is removed with the object. An existing name is an error.
    static Result<Namespace> create(const std::string& name);
    // Somebody else's; it stays.
    static Result<Namespace> open(const std::string& name);
    // Open where it exists, else create.
    static Result<Namespace> open_or_create(const std::string& name);
    // The namespace that this process is in. Its name is "".
    static Result<Namespace> current();
    // `prefix` with this process's id and a random part: for namespaces that must not meet anybody else's.
    static std::string unique_name(const std::string& prefix);

    Namespace(Namespace&& other) noexcept;
    Namespace& operator=(Namespace&& other) noexcept;
    Namespace(const Namespace&) = delete;
    Namespace& operator=(const Namespace&) = delete;
    ~Namespace();

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool owned() const { return owned_; }

    // Runs `work` inside, in a thread of its own, and waits for it. Sockets opened there stay in the namespace.
    Status run(const std::function<Status()>& work) const;
    // Starts a program inside; argv[0] is looked up in PATH. Descriptors that are not close-on-exec are inherited;
    // `output_fd` (where not -1) becomes its standard output and standard error. The caller waits for the process.
    Result<pid_t> spawn(const std::vector<std::string>& argv, int output_fd = -1) const;

private:
    Namespace(std::string name, UniqueFd fd, bool owned) : name_(std::move(name)), fd_(std::move(fd)), owned_(owned) {}
    void remove() noexcept;

    std::string name_;
    UniqueFd fd_;
    bool owned_ = false;
};

// The following act on the namespace of the calling thread: call them inside Namespace::run().

struct LinkSettings {
    uint32_t mtu = 0;            // 0 = leave
    uint32_t queue_packets = 0;  // the device's own transmit queue; 0 = leave
};
Status set_link_up(const std::string& device, const LinkSettings& settings = {});
// "10.77.0.1/30"
Status add_address(const std::string& device, const std::string& cidr);
// destination: "10.0.0.0/8" or "default"; gateway: an address or "" for directly over the device.
Status add_route(const std::string& destination, const std::string& device, const std::string& gateway = "");
// A pair of devices: `name` here, `peer_name` in the other namespace. Both are down.
Status create_veth(const std::string& name, const Namespace& peer, const std::string& peer_name);
Status delete_link(const std::string& device);
// set_sysctl("net/ipv4/ip_forward", "1")
Status set_sysctl(const std::string& path, const std::string& value);

// A TUN device (IP packets, no headers of its own) in the calling thread's namespace, not blocking. It goes when the
// descriptor is closed. The descriptor works from any namespace.
Result<UniqueFd> open_tun(const std::string& device);

}  // namespace adapath
