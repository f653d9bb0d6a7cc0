// A conversation with one generic netlink family of ours: one socket, one request at a time.
#pragma once

#include <netlink/netlink.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "codegen/result.h"
#include "userspace/kmod_backend/messages.h"

namespace adapath::kmod {

// What a family is to whoever speaks to it.
struct GenlFamily {
    const char* name;  // and that of the module that brings it
    const char* load;  // the module that an operator would load
    // For refusals that name one.
    const char* (*attribute_name)(int attribute);
};

class GenlSocket {
public:
    using OnReply = std::function<Status(const nlmsghdr*)>;
    using OnRefusal = std::function<Error(const Refusal&)>;

    explicit GenlSocket(const GenlFamily& family) : family_(family) {}
    // Asks the kernel for the family, upon which the kernel loads the module by itself where it is installed.
    Status connect();
    // The family's number, for messages.
    [[nodiscard]] int number() const { return number_; }
    // Sends and hears out one request: every reply goes to `on_reply` (may be empty), until the acknowledgement or the
    // end of the dump. `request` is its name, for the error of a conversation that breaks off.
    Status talk(const Message& message, const std::string& request, const OnReply& on_reply,
                const OnRefusal& on_refusal);

private:
    struct SocketDeleter {
        void operator()(nl_sock* socket) const { nl_socket_free(socket); }
    };

    const GenlFamily family_;
    std::mutex mutex_;
    std::unique_ptr<nl_sock, SocketDeleter> socket_;
    std::atomic<int> number_ = -1;  // read without the lock, for messages
};

// What a refusal means to an operator; `what` says what was refused.
[[nodiscard]] Error refused(const std::string& what, const Refusal& refusal);

}  // namespace adapath::kmod
