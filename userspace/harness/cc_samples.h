// Samples of the app cc out of what a daemon streams.
#pragma once

#include <adapath/cc.h>
#include <fmt/format.h>

#include <cstring>

#include "codegen/result.h"
#include "userspace/proto/control.grpc.pb.h"

namespace adapath {

// Calls `each` for every sample of the batch, in order. A batch without records may come before the app is known. The
// error says whose records these are.
template <typename Each>
Status for_each_cc_sample(const pb::SampleBatch& batch, Each each) {
    const std::string& records = batch.records();
    if (records.empty()) {
        return {};
    }
    if (batch.record_bytes() != sizeof(adp_cc_sample) || batch.schema() != ADP_CC_SCHEMA) {
        return Error{
            fmt::format("the daemon's samples are of schema {} with {} bytes, this program knows schema {} with {}",
                        batch.schema(), batch.record_bytes(), ADP_CC_SCHEMA, sizeof(adp_cc_sample))};
    }
    for (size_t at = 0; at + sizeof(adp_cc_sample) <= records.size(); at += sizeof(adp_cc_sample)) {
        adp_cc_sample sample;  // a message's bytes need not be aligned for the record
        std::memcpy(&sample, records.data() + at, sizeof(sample));
        each(sample);
    }
    return {};
}

}  // namespace adapath
