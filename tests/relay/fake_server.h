// A server for the relay's connections: keeps what comes, and can be told to stop reading, to reset, or to go away.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <condition_variable>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "userspace/relay/record.h"
#include "userspace/video/net.h"

namespace adapath::relay {

struct GotRecord {
    size_t connection = 0;  // of its camera's, from 0
    uint8_t rendition = 0;
    uint8_t flags = 0;
    uint64_t received_us = 0;  // by the gateway
    uint64_t arrived_us = 0;   // here
    std::vector<uint8_t> packet;
};

class FakeServer {
public:
    // `small`: buffers so small that a server which does not read is noticed soon.
    explicit FakeServer(const std::string& address = "127.0.0.1", bool small = true)
        : address_(address), small_(small) {
        up();
    }
    ~FakeServer() { down(); }

    // Listens again, on the same port.
    void up() {
        video::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int on = 1;
        const int bytes = 4096;
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (small_) setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        inet_pton(AF_INET, address_.c_str(), &at.sin_addr);
        at.sin_port = htons(port_);
        if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || listen(fd.get(), 64) != 0) {
            std::perror("fake server");
            std::abort();
        }
        port_ = video::local_port(fd.get());
        stopping_ = false;
        listener_ = std::move(fd);
        acceptor_ = std::thread([this] { accept_all(); });
    }
    // Closes all connections; `reset`: with an RST.
    void down(bool reset = true) {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            changed_.notify_all();
        }
        shutdown(listener_.get(), SHUT_RDWR);
        if (acceptor_.joinable()) acceptor_.join();
        listener_.reset();
        drop_all(reset);
        for (Connection& connection : connections_)
            if (connection.thread.joinable()) connection.thread.join();
        connections_.clear();
    }
    // Of the connections that there are; the listener stays.
    void drop_all(bool reset) {
        const std::lock_guard lock(mutex_);
        for (Connection& connection : connections_) {
            connection.reset = reset;
            connection.ended = true;
            shutdown(connection.fd.get(), SHUT_RD);
        }
        changed_.notify_all();
    }
    void stall(uint16_t camera, bool on) {
        const std::lock_guard lock(mutex_);
        if (on) {
            stalled_.insert(camera);
        } else {
            stalled_.erase(camera);
        }
        changed_.notify_all();
    }

    // From now on connections end right behind their hello.
    void refuse_all() {
        const std::lock_guard lock(mutex_);
        refusing_ = true;
    }

    [[nodiscard]] uint16_t port() const { return port_; }
    [[nodiscard]] std::vector<GotRecord> records(uint16_t camera) const {
        const std::lock_guard lock(mutex_);
        const auto found = records_.find(camera);
        return found != records_.end() ? found->second : std::vector<GotRecord>();
    }
    [[nodiscard]] size_t count(uint16_t camera) const {
        const std::lock_guard lock(mutex_);
        const auto found = records_.find(camera);
        return found != records_.end() ? found->second.size() : 0;
    }
    [[nodiscard]] size_t connections(uint16_t camera) const {
        const std::lock_guard lock(mutex_);
        const auto found = opened_.find(camera);
        return found != opened_.end() ? found->second : 0;
    }
    [[nodiscard]] bool ended(uint16_t camera) const {
        const std::lock_guard lock(mutex_);
        return ended_.contains(camera);
    }
    [[nodiscard]] std::string gateway() const {
        const std::lock_guard lock(mutex_);
        return gateway_;
    }
    [[nodiscard]] std::string wrong() const {
        const std::lock_guard lock(mutex_);
        return wrong_;
    }

private:
    struct Connection {
        video::Fd fd;
        std::thread thread;
        bool reset = false;
        bool ended = false;
    };

    static uint64_t number(const uint8_t* bytes, int count) {
        uint64_t value = 0;
        for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
        return value;
    }
    void accept_all() {
        for (;;) {
            video::Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            const std::lock_guard lock(mutex_);
            if (stopping_ || !fd.valid()) return;
            Connection& connection = connections_.emplace_back();
            connection.fd = std::move(fd);
            connection.thread = std::thread([this, &connection] { read_all(connection); });
        }
    }
    static bool read_exactly(int fd, void* to, size_t bytes) {
        return bytes == 0 || recv(fd, to, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
    }
    void read_all(Connection& connection) {
        const int fd = connection.fd.get();
        uint16_t camera = 0;
        size_t which = 0;
        adp_relay_hello hello{};
        if (read_exactly(fd, &hello, sizeof hello)) {
            const std::lock_guard lock(mutex_);
            if (number(hello.magic, 4) != ADP_RELAY_MAGIC || hello.version != ADP_RELAY_VERSION) wrong_ = "hello";
            camera = static_cast<uint16_t>(number(hello.camera, 2));
            gateway_ = reinterpret_cast<const char*>(hello.gateway);
            which = opened_[camera]++;
            for (bool more = !refusing_; more;) {
                mutex_.unlock();
                more = read_record(connection, camera, which);
                mutex_.lock();
            }
        }
        const std::lock_guard lock(mutex_);
        if (connection.reset) {
            const linger hard{1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        }
        connection.fd.reset();
    }
    bool read_record(Connection& connection, uint16_t camera, size_t which) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return connection.ended || !stalled_.contains(camera); });
            if (connection.ended) return false;
        }
        adp_relay_wire wire{};
        if (!read_exactly(connection.fd.get(), &wire, sizeof wire)) return false;
        GotRecord record;
        record.connection = which;
        record.rendition = wire.rendition;
        record.flags = wire.flags;
        record.received_us = number(wire.received_us, 8);
        record.packet.resize(number(wire.length, 2));
        if (!read_exactly(connection.fd.get(), record.packet.data(), record.packet.size())) return false;
        record.arrived_us = video::now_ns() / 1000;
        const std::lock_guard lock(mutex_);
        if (record.rendition > 1 || (record.flags & ~ADP_RELAY_FLAGS) != 0) wrong_ = "record";
        if ((record.flags & ADP_RELAY_END) != 0) {
            if (!record.packet.empty()) wrong_ = "END with a packet";
            ended_.insert(camera);
            return true;  // and see that nothing follows
        }
        if (ended_.contains(camera)) wrong_ = "a record after END";
        records_[camera].push_back(std::move(record));
        return true;
    }

    const std::string address_;
    const bool small_;
    uint16_t port_ = 0;
    video::Fd listener_;
    std::thread acceptor_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool stopping_ = false;
    bool refusing_ = false;
    std::list<Connection> connections_;
    std::set<uint16_t> stalled_;
    std::map<uint16_t, std::vector<GotRecord>> records_;
    std::map<uint16_t, size_t> opened_;
    std::set<uint16_t> ended_;
    std::string gateway_;
    std::string wrong_;
};

}  // namespace adapath::relay
