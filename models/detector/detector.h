// The server's vision network: boxes in a picture, and how much each pixel matters for finding them.
//
// Two kinds of file: the COCO CenterNet that `make deps` fetches (a TF.js graph model, *.json), and a user's own
// TorchScript module (*.pt). What a .pt must take and give is in docs/detector.md. A .pt is a program: load only one
// that you would run.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "models/detector/box.h"
#include "models/detector/image.h"

namespace adapath {

// F1 (accuracy.h) moves in steps and has no gradient. What gradients are taken of instead, from 0 to 1:
//
//   mean over the reference's boxes of the greatest score x intersection over union
//   that any candidate of the same class has with the box
//
// where candidates are all that the network takes for an object, however low the score (the best 300). AccMPEG adds up
// the scores of what was found; the overlap is here because a box that has moved off its object counts as wrong in F1.
// Of ten such functions tried (scores alone; score and overlap through sigmoids of several widths, with and without
// false positives) none found clearly better blocks than this one, and this one has no parameter to tune and keeps a
// gradient where an object's score has sunk far below the threshold. Without a reference box it is 1.
struct PixelGradient {
    double accuracy = 0;
    // d accuracy / d channel value (0-255), one for each byte of Image::rgb.
    std::vector<float> rgb;
};

// One thread at a time. Every error names the file.
class Detector {
public:
    virtual ~Detector() = default;

    // Boxes with at least that score, the best first, at most `most_boxes`.
    virtual Result<std::vector<Box>> detect(const Image& image, double score = 0.3) = 0;

    // The differentiable accuracy of what the network finds in `image` against `reference` (what it found at the
    // highest quality).
    virtual Result<double> soft_accuracy(const Image& image, std::span<const Box> reference) = 0;
    // Its gradient: about 2.4 times the cost of detect().
    virtual Result<PixelGradient> gradient(const Image& image, std::span<const Box> reference) = 0;

    // "class 7" where the network has no word for it.
    [[nodiscard]] virtual std::string class_name(int class_id) const = 0;

    static constexpr size_t most_boxes = 300;
    // Pictures with a longer side are refused: memory grows with the area.
    static constexpr int longest_side = 4096;
};

// By the file's name: *.json or *.pt.
Result<std::unique_ptr<Detector>> open_detector(const std::string& path);

// For the whole process, once at its start. LibTorch's threads: its own default is one a core, which crawls as soon as
// another process does the same. And freed memory is kept for the next picture, up to 1 GB, instead of being given back
// to the kernel: without that detect() takes half as long again.
void prepare_process(int threads);

}  // namespace adapath
