// Between the structs and their Protobuf messages, for files and for gRPC. Reading a message refuses what the structs
// can't hold (an activation or weight out of its type's range); validate() does the rest.
#pragma once

#include "codegen/codegen.h"
#include "codegen/proto/snapshot.pb.h"

namespace adapath {

void to_proto(const Network& network, pb::Network* out);
void to_proto(const ImageNetwork& network, pb::ImageNetwork* out);
void to_proto(const FloatModel& model, pb::FloatModel* out);
void to_proto(const Fidelity& fidelity, pb::Fidelity* out);
void to_proto(const Provenance& provenance, pb::Provenance* out);
// The hashes as they are in the struct: seal() first.
void to_proto(const Snapshot& snapshot, pb::Snapshot* out);

Result<Network> from_proto(const pb::Network& message);
Result<ImageNetwork> from_proto(const pb::ImageNetwork& message);  // validated
Result<FloatModel> from_proto(const pb::FloatModel& message);      // validated
Fidelity from_proto(const pb::Fidelity& message);
Provenance from_proto(const pb::Provenance& message);
// Checks everything that parse_snapshot() does but magic and version: hashes, validate(), prove(), sizes.
Result<Snapshot> from_proto(const pb::Snapshot& message);

}  // namespace adapath
