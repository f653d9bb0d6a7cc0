// From the server's reports to the daemon's feed.
#include "userspace/relay/feedback.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include "userspace/relay/reports.h"
#include "userspace/video/net.h"

namespace adapath::relay {

namespace {

// That wait for a daemon which is away: some seconds' worth of them. Older ones are of no use to it.
constexpr size_t reports_waiting = 1000;
// A peer that has gone without a word is noticed so.
constexpr int keepalive_ms = 30'000;
constexpr int keepalive_timeout_ms = 10'000;
constexpr int connect_ms = 5000;
// A daemon that refuses takes a message or two before it says so: only a call that has lasted so long is one that
// works.
constexpr std::chrono::milliseconds accepted{1000};
// How long the daemon has to take the last messages, at the end.
constexpr std::chrono::milliseconds farewell{1000};

grpc::ChannelArguments channel_arguments() {
    grpc::ChannelArguments arguments;
    // Each attempt has a connection of its own: how often to try is decided here alone.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, connect_ms);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_timeout_ms);
    return arguments;
}

}  // namespace

class Feedback::Attempts {
public:
    // `good`: what there is to say when it works.
    Attempts(std::string peer, const char* good, const FeedbackOptions& options)
        : peer_(std::move(peer)), good_(good), options_(options), pause_(options.retry_least) {}

    void begun() { begun_ = std::chrono::steady_clock::now(); }
    void there_if_it_lasts() {
        if (std::chrono::steady_clock::now() - begun_ >= accepted) {
            there();
        }
    }
    void there() {
        if (!there_) {
            spdlog::info("{}: {}", peer_, good_);
        }
        there_ = true;
        said_ = false;
        pause_ = options_.retry_least;
    }
    // How long to wait before the next attempt.
    std::chrono::milliseconds gone(const grpc::Status& status) {
        if (!said_) {
            spdlog::warn("{}: {}; trying on", peer_, status.ok() ? "the call was ended" : status.error_message());
            said_ = true;
        }
        there_ = false;
        const std::chrono::milliseconds now = pause_;
        pause_ = std::min(pause_ * 2, options_.retry_most);
        return now;
    }

private:
    const std::string peer_;
    const char* const good_;
    const FeedbackOptions& options_;
    std::chrono::milliseconds pause_;
    std::chrono::steady_clock::time_point begun_;
    bool there_ = false;
    bool said_ = false;
};

Feedback::Feedback(FeedbackOptions options) : options_(std::move(options)) {
    if (!options_.vision.empty()) {
        watching_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
    }
    if (!options_.daemon.empty()) {
        feeding_ = std::jthread([this](const std::stop_token& stop) { feed(stop); });
    }
}

Feedback::~Feedback() {
    // In this order: reports that have come are still handed on.
    watching_ = {};
    feeding_ = {};
}

void Feedback::set_market(const pb::Market& market) {
    const std::lock_guard lock(mutex_);
    market_ = market;
    changed_.notify_all();
}

Feedback::Counters Feedback::counters() const {
    const std::lock_guard lock(mutex_);
    return counters_;
}

bool Feedback::pause(const std::stop_token& stop, std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, time, [] { return false; });
    return !stop.stop_requested();
}

void Feedback::take(pb::CameraReport& report) {
    const std::string wrong = wrong_with(report, options_.cameras, video::now_ns() / 1000);
    if (wrong.empty() && options_.on_report) {
        options_.on_report(report);
    }
    const std::lock_guard lock(mutex_);
    counters_.reports++;
    if (!wrong.empty()) {
        if (counters_.refused++ == 0) {
            spdlog::warn("server: a report is not believed: {}; others will only be counted", wrong);
        }
        return;
    }
    // What only encoders can mend is none of the daemon's business.
    if (options_.daemon.empty() || report.has_background_lost()) {
        return;
    }
    if (reports_.size() == reports_waiting) {
        reports_.pop_front();
        counters_.lost++;
    }
    reports_.push_back(std::move(report));
    changed_.notify_all();
}

void Feedback::watch(const std::stop_token& stop) {
    Attempts attempts("server " + options_.vision, "reports are coming", options_);
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = options_.ca;
    tls.pem_cert_chain = options_.certificate;
    tls.pem_private_key = options_.key;
    const auto credentials = grpc::SslCredentials(tls);
    grpc::ChannelArguments arguments = channel_arguments();
    if (!options_.server_name.empty()) {
        arguments.SetSslTargetNameOverride(options_.server_name);
    }
    while (!stop.stop_requested()) {
        const auto channel = grpc::CreateCustomChannel(options_.vision, credentials, arguments);
        const auto stub = pb::Vision::NewStub(channel);
        grpc::ClientContext context;
        const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
        pb::WatchCameras request;
        request.set_gateway(options_.gateway);
        const auto reader = stub->Watch(&context, request);
        {
            const std::lock_guard lock(mutex_);
            counters_.watches++;
        }
        pb::CameraReport report;
        while (reader->Read(&report)) {
            attempts.there();
            {
                const std::lock_guard lock(mutex_);
                counters_.server_there = true;
            }
            take(report);
        }
        const grpc::Status status = reader->Finish();
        {
            const std::lock_guard lock(mutex_);
            counters_.server_there = false;
        }
        if (stop.stop_requested() || !pause(stop, attempts.gone(status))) {
            return;
        }
    }
}

void Feedback::feed(const std::stop_token& stop) {
    Attempts attempts("adapathd at " + options_.daemon, "takes prices and reports", options_);
    for (;;) {
        const auto channel =
            grpc::CreateCustomChannel(options_.daemon, grpc::InsecureChannelCredentials(), channel_arguments());
        const auto stub = pb::SelectFeed::NewStub(channel);
        grpc::ClientContext context;
        pb::FeedReply reply;
        const auto writer = stub->Feed(&context, &reply);
        attempts.begun();
        {
            const std::lock_guard lock(mutex_);
            counters_.feeds++;
        }
        // A write can wait for a daemon that does not read; the end does not wait for that.
        std::jthread watchdog;
        const std::stop_callback hurry(stop, [&] {
            watchdog = std::jthread([&context](const std::stop_token& ended) {
                std::mutex mutex;
                std::condition_variable_any changed;
                std::unique_lock lock(mutex);
                if (!changed.wait_for(lock, ended, farewell, [&ended] { return ended.stop_requested(); })) {
                    context.TryCancel();
                }
            });
        });
        bool sound = true;
        while (sound) {
            pb::FeedRequest request;
            bool market = false;
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, stop, [this] { return market_.has_value() || !reports_.empty(); });
                if (market_) {
                    *request.mutable_market() = *market_;
                    market_.reset();
                    market = true;
                } else if (!reports_.empty()) {
                    *request.mutable_report() = std::move(reports_.front());
                    reports_.pop_front();
                } else {
                    break;  // stopped, and nothing is left
                }
            }
            sound = writer->Write(request);
            const std::lock_guard lock(mutex_);
            if (!sound) {
                counters_.lost += market ? 0 : 1;
            } else {
                (market ? counters_.markets : counters_.forwarded)++;
                counters_.daemon_there = true;
            }
            if (sound) {
                attempts.there_if_it_lasts();
            }
        }
        if (sound) {
            writer->WritesDone();
        }
        const grpc::Status status = writer->Finish();
        {
            const std::lock_guard lock(mutex_);
            counters_.daemon_there = false;
        }
        if (stop.stop_requested() || !pause(stop, attempts.gone(status))) {
            return;
        }
    }
}

}  // namespace adapath::relay
