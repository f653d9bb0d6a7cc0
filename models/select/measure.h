// Measures select's dataset: encodes each view of a clip in two renditions, decodes both, and asks the server's vision
// network what it finds in them.
#pragma once

#include <functional>
#include <string>

#include "codegen/result.h"
#include "models/detector/detector.h"

namespace adapath {

struct SelectMeasurement {
    std::string clip;
    std::string path;     // of the dataset; what is in it already is not measured again
    uint32_t group = 10;  // pictures of a chunk
    uint32_t every = 2;   // of them, every so manyth is looked at
    uint32_t most = 0;    // chunks to measure in this call; 0 = all
    // Now and then: chunks that are there, of how many. False stops.
    std::function<bool(size_t done, size_t all)> progress{};
};

// F1 is of the boxes against those in the decoded main stream, the mean of a chunk's looked-at pictures, as the server
// measures it; the boxes of the sub stream are scaled to main's size. So main's accuracy is 1.
Status measure_select(Detector& detector, const SelectMeasurement& measurement);

}  // namespace adapath
