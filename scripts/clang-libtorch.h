/*
 * For clang-tidy over what includes LibTorch 1.13 (models/.clang-tidy): its headers use std::vector<c10::IValue> before
 * IValue is complete. With the constexpr vector of GCC 12's C++20 library clang instantiates that on the spot and
 * fails; GCC waits. So std::vector alone is made as it was in C++17. What it includes stays constexpr, and comes first.
 */
#include <memory>
#include <string>
#undef _GLIBCXX20_CONSTEXPR
#define _GLIBCXX20_CONSTEXPR
#define __fill_a1 __fill_a1_of_bits /* declared constexpr by what came before */
#include <vector>
#undef __fill_a1
#undef _GLIBCXX20_CONSTEXPR
#define _GLIBCXX20_CONSTEXPR constexpr
