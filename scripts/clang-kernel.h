/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* For clang-kernel.sh: what a kernel configured for gcc says of its compiler and clang has not. */
#undef CONFIG_USE_X86_SEG_SUPPORT /* named address spaces: clang's differ */
#undef CONFIG_CC_HAS_NAMED_AS
