// A camera that needs no gateway before it: its frames as RTP packets (rtp_muxer.h) in the relay's records
// (userspace/relay/record.h), all of them the main rendition, as adapath-server takes them. A record's time is the
// frame's capture, so the server's reports name a chunk by its first picture's.
#pragma once

#include <string>

#include "userspace/video/stream_format.h"

namespace adapath::camera {

// `gateway`: the name in the hello, as relay::is_gateway_name() has it.
[[nodiscard]] video::StreamFormatFactory record_streams(const std::string& gateway);

}  // namespace adapath::camera
