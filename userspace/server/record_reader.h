// The relay's bytes (userspace/relay/record.h) taken apart: the hello, then records. Nothing that they claim is
// believed; what is malformed is an error that says how, and ends the connection.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <adapath/select.h>

#include "codegen/result.h"

namespace adapath::server {

// 1 to 63 of A-Z a-z 0-9 . _ -
[[nodiscard]] bool is_gateway_name(std::string_view name);

struct Hello {
    std::string gateway;
    uint16_t camera = 0;
};

struct Record {
    uint32_t rendition = 0;  // enum adp_select_rendition
    bool end = false;
    bool after_drop = false;
    uint64_t received_us = 0;
    std::span<const uint8_t> packet;  // valid until the next space()
};

class RecordReader {
public:
    enum class State { more, hello, record };

    RecordReader() : buffer_(capacity) {}

    // Where the next bytes go, and how many came. The buffer never grows: it has room for the longest record.
    std::span<uint8_t> space();
    void filled(size_t bytes) { end_ += bytes; }
    // What is complete, the hello first.
    Result<State> next();

    [[nodiscard]] const Hello& hello() const { return hello_; }
    [[nodiscard]] const Record& record() const { return record_; }
    [[nodiscard]] size_t partial_bytes() const { return end_ - begin_; }

private:
    static constexpr size_t capacity = 256 * 1024;

    Status read_hello();
    Status check_time(uint32_t rendition, uint64_t received_us);

    std::vector<uint8_t> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    bool greeted_ = false;
    bool ended_ = false;
    std::array<uint64_t, ADP_SELECT_RENDITIONS> latest_us_{};
    Hello hello_;
    Record record_;
};

}  // namespace adapath::server
